"""``forwarder status --watch`` on a terminal: what needs a person first, then rates and trends.

``screen`` decides what is shown, from the statuses of the last minutes; ``watch`` draws it.
"""

from __future__ import annotations

import os
import shutil
import textwrap
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

from forwarder.cli.status import full, refusals, understood
from forwarder.cli.terminal import Line, draw, now_us, one_line, printable_tree, when, whole_screen
from forwarder.core.errors import ForwarderError
from forwarder.transport.settings import format_size

Status: TypeAlias = Mapping[str, Any]

BLOCKS, SIGNS = "▁▂▃▄▅▆▇█", "_.:-=+*#"
"""Levels of a trend, from nothing to the highest; the second for terminals without Unicode."""
KEPT = 300.0
"""Seconds of statuses that rates and trends are made of."""
_COLUMN = 10.0
_RECENT = 30.0
_NARROWEST = 10
"""Columns of a sentence; what a narrower terminal has no room for is cut off."""
_MOST_COLUMNS = round(KEPT / _COLUMN)
_URGENCY = ("held", "waiting", "gated", "starting")
_RED, _YELLOW, _GREEN, _BOLD, _FAINT = "31", "33", "32", "1", "2"
_COLOURS = {"held": _RED, "waiting": _YELLOW, "gated": _YELLOW}


class Look(NamedTuple):
    """A status, when it came (seconds of a clock that never jumps), and what it had counted."""

    at: float
    state: Status
    totals: Mapping[str, int]


def look(at: float, state: Status) -> Look:
    """Take a status, in which nothing can steer a terminal from now on."""
    state = printable_tree(state)
    with understood(state):
        counted = [(_stream(one), one.get("rows")) for one in state["streams"]]
        counted += [(_sink(one), one.get("delivered_events")) for one in state["sinks"]]
    # A forwarder of another release may not count both.
    return Look(at, state, {name: total for name, total in counted if total is not None})


def screen(
    looks: Sequence[Look], clock: str, size: tuple[int, int], signs: str, trouble: str = ""
) -> list[Line]:
    """Return what fits on a terminal of ``size`` (columns, lines), for one status or more.

    ``clock`` is shown as it is; ``trouble`` is why there is no newer status.
    """
    width, height = size
    state = looks[-1].state
    above = [*_head(state, clock, width, trouble), *_urgent(state, width)[: height // 3], Line("")]
    below = [Line(""), *_rest(state), Line("q ends; a sign of a trend is ten seconds", _FAINT)]
    streams, sinks = _streams(looks, width, signs), _sinks(looks, width, signs)
    room = max(4, height - len(above) - len(below) - 1)
    # Half of the room each; what one does not need, the other one gets.
    share = min(len(sinks), max(room // 2, room - len(streams)))
    tables = [*_cut(streams, room - share), Line(""), *_cut(sinks, share)]
    return [Line(text[:width], colour) for text, colour in [*above, *tables, *below][:height]]


def _cut(table: Sequence[Line], room: int) -> Sequence[Line]:
    if len(table) <= room:
        return table
    shown = max(1, room - 1)
    return [*table[:shown], Line(f"and {len(table) - shown} more", _FAINT)]


def _head(state: Status, clock: str, width: int, trouble: str) -> Iterator[Line]:
    word = state["state"].replace("_", " ").upper()
    colour = {"READY": _GREEN, "DEGRADED": _YELLOW}.get(word, _RED)
    uptime = _age(state["uptime_seconds"])
    left = f"{word}  {state['host']}  version {state['version']}, up {uptime}"
    yield Line(left[: width - len(clock) - 2].ljust(width - len(clock)) + clock, colour)
    if trouble:
        yield Line(f"no answer: {one_line(trouble)}", _RED)


def _urgent(state: Status, width: int) -> list[Line]:
    """Return what needs a person: the reasons of the state first, then errors and losses."""
    told = "\n".join(state["reasons"])
    found = [
        (reason, _RED if state["state"] == "not_ready" else _YELLOW) for reason in told.split("\n")
    ]
    found += [(fault, _RED) for fault in refusals(state)]
    for one in _sorted([*state["streams"], *state["sinks"]]):
        if one["error"] and one["error"] not in told:
            name = f"sink {one['sink']}" if "sink" in one else _stream(one)
            hint = f" ({one['hint']})" if one["hint"] else ""
            found.append((f"{name}: {one['error']}{hint}", _COLOURS.get(one["phase"], "")))
    for one in state["dead_letters"]:
        text = f"dead letters of {one['sink']} ({_count(one['events'])}): {one['reason']}"
        found.append((f"{text}: forwarder dead-letters list --sink {one['sink']}", _YELLOW))
    if state["gaps"]["open"]:
        found.append((f"open gaps ({state['gaps']['open']}): forwarder gaps list", _YELLOW))
    lines = [
        Line(("! " if first else "  ") + text, colour)
        for sentence, colour in found
        for first, text in _wrapped(sentence, max(_NARROWEST, width - 2))
    ]
    return lines or [Line("nothing needs a person", _FAINT)]


def _wrapped(text: str, width: int) -> Iterator[tuple[bool, str]]:
    for number, line in enumerate(textwrap.wrap(text, width, max_lines=3, placeholder=" ...")):
        yield number == 0, line


def _streams(looks: Sequence[Look], width: int, signs: str) -> list[Line]:
    trend = _trend_width(width)
    rows = [
        (
            (_stream(one), one["phase"], *_flow(looks, _stream(one), trend, signs)),
            (_age(one["lag_seconds"]), _age(one["retention_left_seconds"])),
            _COLOURS.get(one["phase"], ""),
        )
        for one in _sorted(looks[-1].state["streams"])
    ]
    return _table(("stream", "phase", "rows/s", "trend", "lag", "left"), rows, trend, width)


def _sinks(looks: Sequence[Look], width: int, signs: str) -> list[Line]:
    trend = _trend_width(width)
    rows = [
        (
            (one["sink"], one["phase"], *_flow(looks, _sink(one), trend, signs)),
            (
                _count(one["backlog_events"]),
                _age(one["oldest_unacknowledged_seconds"] or None),
                _count(one["dead_letters"]),
            ),
            _COLOURS.get(one["phase"], ""),
        )
        for one in _sorted(looks[-1].state["sinks"])
    ]
    return _table(
        ("sink", "phase", "events/s", "trend", "backlog", "oldest", "dead"), rows, trend, width
    )


def _table(
    heads: Sequence[str],
    rows: Sequence[tuple[tuple[str, ...], tuple[str, ...], str]],
    trend: int,
    width: int,
) -> list[Line]:
    """Return a heading and a line a row; the name gets the width that the rest leaves."""
    sizes = [8, 8, trend, *[9, 7, 6][: len(heads) - 4]]
    name = max(8, width - sum(sizes) - len(sizes))

    def line(cells: Sequence[str]) -> str:
        first, phase, rate, drawn, *numbers = cells
        texts = [_short(first, name), phase.ljust(8)[:8], rate.rjust(8), drawn.ljust(trend)]
        texts += [text.rjust(size) for text, size in zip(numbers, sizes[3:], strict=True)]
        return " ".join(texts)

    return [
        Line(line(heads), _BOLD),
        *(Line(line([*flow, *numbers]), colour) for flow, numbers, colour in rows),
    ]


def _trend_width(width: int) -> int:
    return max(6, min(_MOST_COLUMNS, (width - 35) // 3))


def _flow(looks: Sequence[Look], name: str, columns: int, signs: str) -> tuple[str, str]:
    """Return the rate of late and the trend of what was counted under a name."""
    points = [(one.at, one.totals[name]) for one in looks if name in one.totals]
    return (_rate(points), _trend(points, columns, signs)) if points else ("", "")


def _rate(points: Sequence[tuple[float, int]]) -> str:
    """Return events a second over the last half minute; nothing before there are two points."""
    recent = [point for point in points if point[0] >= points[-1][0] - _RECENT]
    (since, before), (until, after) = recent[0], recent[-1]
    return _brief(max(0, after - before) / (until - since)) if until > since else ""


def _trend(points: Sequence[tuple[float, int]], columns: int, signs: str) -> str:
    """Return a sign for each whole ten seconds, the last one at the right."""
    # Edges stay where they are while time passes, so that only new signs appear.
    last = int(points[-1][0] // _COLUMN)
    edges = [_total(points, (last - back) * _COLUMN) for back in range(columns, -1, -1)]
    steps = [None if a is None or b is None else max(0, b - a) for a, b in pairwise(edges)]
    most = max((step for step in steps if step), default=1)
    return "".join(
        " " if step is None else signs[-(-step * (len(signs) - 1) // most)] for step in steps
    )


def _total(points: Sequence[tuple[float, int]], moment: float) -> int | None:
    """Return what had been counted at a moment, None before the first point."""
    return next((total for at, total in reversed(points) if at <= moment), None)


def _rest(state: Status) -> Iterator[Line]:
    journal, gaps = state["journal"], state["gaps"]
    share = journal["undelivered_bytes"] / max(1, journal["limit_bytes"])
    closed, size = journal["gate_closed"], format_size(journal["limit_bytes"])
    meaning = f", {full(state)}" if closed else ""
    text = f"journal: {share:.1%} of {size} undelivered{meaning}; open gaps: {gaps['open']}"
    yield Line(text, _RED if closed else "")
    if state["backfills"]:
        rows = sum(one["rows"] for one in state["backfills"])
        yield Line(f"backfills: {len(state['backfills'])}, {_count(rows)} rows so far")


def _sorted(entries: Sequence[Status]) -> list[Status]:
    """Return streams or sinks, those that need a person first; the order is kept otherwise."""
    rank = {phase: number for number, phase in enumerate(_URGENCY)}
    return sorted(entries, key=lambda one: rank.get(one["phase"], len(rank)))


def _stream(one: Status) -> str:
    return f"{one['account']}/{one['stream']}"


def _sink(one: Status) -> str:
    return f"sink {one['sink']}"


def _short(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: width - 3]}..."


def _brief(value: float) -> str:
    """Return a number in at most six signs."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1000 if unit == 'k' else size):.1f}{unit}"
    return f"{value:.1f}" if 0 < value < 10 else f"{value:.0f}"  # noqa: PLR2004 - one digit


def _count(value: int) -> str:
    return f"{value:,}" if value < 10_000_000 else _brief(value)  # noqa: PLR2004 - nine signs


def _age(seconds: float | None) -> str:
    """Return a time in two or three signs and its unit."""
    if seconds is None:
        return ""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def signs_for(environ: Mapping[str, str]) -> str:
    """Return the signs for trends that the terminal of a locale can show."""
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    return BLOCKS if "utf8" in locale.lower().replace("-", "") else SIGNS


def watch(ask: Callable[[], Status], pace: float) -> None:
    """Draw the status until somebody presses q, Ctrl-C, or ends the process.

    ``ask`` is called every ``pace`` seconds; what it raises at first is raised, later shown.
    """
    looks, trouble = deque([look(time.monotonic(), ask())]), ""
    signs = signs_for(os.environ)
    with whole_screen() as key:
        while True:
            with understood(looks[-1].state):
                draw(screen(looks, when(now_us()), shutil.get_terminal_size(), signs, trouble))
            if key(1.0) in {"q", "Q"}:
                return
            if time.monotonic() - looks[-1].at < pace:
                continue
            try:
                looks.append(look(time.monotonic(), ask()))
                trouble = ""
            except ForwarderError as error:
                trouble = str(error)
            while looks[-1].at - looks[0].at > KEPT:
                looks.popleft()
