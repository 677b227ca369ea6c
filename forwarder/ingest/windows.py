"""Decides which window of which reader is read next. Pure arithmetic, no I/O.

Positions are covered-until times; windows follow the server's clock, never this machine's. Streams
that are read part by part (identity providers) have a group of parts that the live reader reads
together; a new part has a reader of its own until it is level.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from forwarder.core.contracts import Lost, Window
from forwarder.core.log import ReaderState
from forwarder.core.timing import EARLIEST_US
from forwarder.transport.settings import format_duration

SECOND_US = 1_000_000
CURSOR_IN_FUTURE = "cursor_in_future"
RETENTION = "older_than_retention"
_PREFIX = "part:"
_SHORTEST_SLICE_S = 60.0
_LONGEST_SLICE_S = 300.0
_LONGEST_WINDOW_S = 3600.0
_SLICES_AN_AGE = 4
_A_MOMENT = 30.0


@dataclass(frozen=True, slots=True)
class Group:
    """The parts that the live reader reads together; None for a stream without parts."""

    ids: tuple[str, ...] | None = None
    memory: Any | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what the log keeps."""
        return {"ids": self.ids, "memory": self.memory}

    @classmethod
    def from_json(cls, kept: Any | None) -> Group | None:
        """Return what the log kept, None at the very first start."""
        if not isinstance(kept, dict):
            return None
        ids = kept.get("ids")
        return cls(None if ids is None else tuple(ids), kept.get("memory"))


@dataclass(frozen=True, slots=True)
class Membership:
    """Who reads what from now on."""

    group: tuple[str, ...]
    joining: tuple[str, ...]
    joined: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]


def reader_of(part: str) -> str:
    """Return the name of the reader that brings a new part level."""
    return _PREFIX + part


def joining_parts(readers: Collection[str]) -> list[str]:
    """Return the parts that have a reader of their own."""
    return sorted(name.removeprefix(_PREFIX) for name in readers if name.startswith(_PREFIX))


def regroup(
    group: Sequence[str], joining: Sequence[str], level: Collection[str], now: Sequence[str]
) -> Membership:
    """Decide who belongs to the group.

    ``group`` and ``joining`` are as before, ``level`` those joining parts that have come level,
    ``now`` all parts that are to be read. New parts join by readers of their own even where the
    group is empty: they have a past of their own.
    """
    wanted = set(now)
    joined = tuple(part for part in joining if part in level and part in wanted)
    kept = tuple(part for part in group if part in wanted and part not in joined)
    known = {*group, *joining}
    added = tuple(part for part in now if part not in known)
    still = tuple(part for part in joining if part in wanted and part not in level)
    removed = tuple(part for part in (*group, *joining) if part not in wanted)
    return Membership((*kept, *joined), (*still, *added), joined, added, removed)


@dataclass(frozen=True, slots=True)
class PollOptions:
    """How one stream is read; seconds throughout.

    ``reconcile`` holds ages: everything is read once more when it has that age. What is younger
    than ``hold_back`` does not count as covered.
    """

    poll_interval: float = 10.0
    start_from: float = 86_400.0
    overlap: float = 60.0
    reconcile: tuple[float, ...] = (600.0, 3600.0, 72_000.0)
    retention: float = 86_400.0
    hold_back: float = 0.0

    @property
    def ages(self) -> tuple[float, ...]:
        """Return the ages that can still be read: those below the retention."""
        return tuple(age for age in sorted(self.reconcile) if age < self.retention)


def us(seconds: float) -> int:
    """Return microseconds."""
    return round(seconds * SECOND_US)


def live_window(covered_us: int, now_us: int, overlap_s: float) -> Window:
    """Return what a live round reads: from the overlap before covered-until to the server's now."""
    return Window(covered_us - us(overlap_s), now_us)


def slice_length(age_s: float) -> float:
    """Return seconds of a reconciliation slice: a quarter of the age, one minute to five."""
    # Five at most, so that a busy account is re-read evenly and not in bursts of requests.
    return min(_LONGEST_SLICE_S, max(_SHORTEST_SLICE_S, age_s / _SLICES_AN_AGE))


def slice_window(covered_us: int, now_us: int, age_s: float) -> Window | None:
    """Return the next slice that is old enough, or None when none is.

    After downtime slices are as long as an hour, whatever the age.
    """
    ripe_us = now_us - us(age_s)
    # Whole slices only: two requests a slice, however short it is.
    if ripe_us < covered_us + us(slice_length(age_s)):
        return None
    return Window(covered_us, min(ripe_us, covered_us + us(_LONGEST_WINDOW_S)))


@dataclass(frozen=True, slots=True)
class LivePlan:
    """What the live reader does next.

    ``state`` has the window to read, None when there is nothing to read yet. ``lost`` goes to the
    gap ledger, ``left`` is the seconds until the first unread row expires.
    """

    state: ReaderState | None
    lost: tuple[Lost, ...]
    left: float


def plan_live(
    state: ReaderState, now_us: int, options: PollOptions, *, safe_us: int, past_us: int | None
) -> LivePlan:
    """Resume an interrupted round, or read from covered-until to the server's now.

    ``safe_us`` is a place that is certainly covered, for a position that cannot be true.
    ``past_us`` is the server's time at the very first start until its first round has ended, None
    later: what expired before the first start was never ours to lose.
    """
    covered_us, ahead = clamped(state.covered_until_us, now_us, safe_us)
    if covered_us != state.covered_until_us:
        state = ReaderState(covered_us, rows=state.rows)
    read_us = state.read_until_us
    unread_us = read_us if past_us is None else max(read_us, past_us)
    expired = beyond_retention(unread_us, now_us, options.retention)
    lost = tuple(filter(None, (ahead, expired)))
    left = retention_left(read_us, now_us, options.retention)
    # A loss is stored with a page, so that it needs a round even where no time has passed.
    if state.window is None and (now_us > covered_us or lost):
        state = ReaderState(
            covered_us, live_window(covered_us, now_us, options.overlap), rows=state.rows
        )
    return LivePlan(state if state.window else None, lost, left)


def trailing(age_s: float) -> str:
    """Return the name of the reader that reads everything once more at an age."""
    return f"reconcile:{age_s:g}"


def safe_place(readers: Mapping[str, ReaderState], now_us: int, options: PollOptions) -> int:
    """Return the newest place that a trailing reader has covered.

    A reader ahead of what its age allows proves nothing; without any other one this is where a
    first start begins.
    """
    places = [
        readers[trailing(age)].covered_until_us
        for age in options.ages
        if not _is_ahead(readers[trailing(age)], now_us, age)
    ]
    return max(places, default=now_us - us(options.start_from))


def settled_back(state: ReaderState, now_us: int, age_s: float, kept_s: float = inf) -> ReaderState:
    """Return a trailing reader's state; one that is ahead of its age starts over.

    ``kept_s`` is how far back there are rows: a reader that is further behind skips to there.
    """
    if _is_ahead(state, now_us, age_s):
        return ReaderState(now_us - us(age_s))
    if state.window is None and now_us - state.covered_until_us > kept_s * SECOND_US:
        return replace(state, covered_until_us=now_us - us(kept_s))
    return state


def _is_ahead(state: ReaderState, now_us: int, age_s: float) -> bool:
    return state.covered_until_us > now_us - us(age_s) + SECOND_US


def clamped(covered_us: int, now_us: int, safe_us: int) -> tuple[int, Lost | None]:
    """Return a usable covered-until, and what to record if it was beyond the server's now.

    Where the reader really was nobody knows: it goes back to ``safe_us``.
    """
    if covered_us <= now_us + SECOND_US:
        return max(covered_us, EARLIEST_US), None
    ahead = format_duration((covered_us - now_us) / SECOND_US)
    detail = f"the stored position was {ahead} ahead of the server's clock"
    return min(safe_us, now_us), Lost(CURSOR_IN_FUTURE, now_us, covered_us, 0, detail)


def beyond_retention(covered_us: int, now_us: int, retention_s: float) -> Lost | None:
    """Return what has probably expired unread: from covered-until to the start of the history."""
    history_us = now_us - us(retention_s)
    if covered_us >= history_us:
        return None
    kept = format_duration(retention_s)
    detail = f"it is older than the plan's retention ({kept}) and had not been read"
    return Lost(RETENTION, covered_us, history_us, None, detail)


def retention_left(covered_us: int, now_us: int, retention_s: float) -> float:
    """Return the seconds until the first unread row expires; negative when some have."""
    return retention_s - (now_us - covered_us) / SECOND_US


def expired_past(state: ReaderState, now_us: int, options: PollOptions) -> tuple[Lost, ...]:
    """Return what of a new part's past has expired unread since the part was found."""
    # A moment more: a part that was just found starts exactly at the edge.
    reach = max(options.start_from, options.retention) + _A_MOMENT
    lost = beyond_retention(state.read_until_us, now_us, reach)
    return (lost,) if lost else ()
