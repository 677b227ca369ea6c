"""The time walk: where the next request of a window starts. Pure.

A request asks for rows from ``since`` on, oldest first. The next one starts a second before the
second of the newest row, so it does not matter whether ``since`` is inclusive or cut to whole
seconds, and rows that expire or arrive meanwhile shift nothing out of sight. Page numbers serve
only where one second holds more rows than a page, and for a server that ignores the order.

A window ends at an answer that is empty, or that brings the newest second unchanged, stands still
in time and is not full. The server's word for where things end (``total_count``, a short page) is
never taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import pairwise
from typing import Any

from forwarder.core.errors import TransientError
from forwarder.core.model import Lost, Window
from forwarder.core.timestamps import format_us

SECOND_US = 1_000_000
UNREADABLE = "instant_unreadable"
_SMALLEST_CAP = 20
"""An answer of fewer rows than this was never cut short: no default of the API is smaller."""
_MOST_PAGES = 10_000
_MOST_REPEATS = 2


@dataclass(frozen=True, slots=True)
class Step:
    """The next request of a walk, and what the last answer looked like.

    ``since_us`` is where it starts. ``newest`` is a fingerprint of the rows in the newest second
    of the last answer, ``whole`` of all its rows; ``largest`` the most rows an answer had.
    ``unsorted`` says that the server ignores the order. ``repeats`` counts how often the last
    answer came again, ``passed_us`` is the second that was last given up.
    """

    since_us: int
    page: int = 1
    newest: str = ""
    whole: str = ""
    largest: int = 0
    unsorted: bool = False
    repeats: int = 0
    passed_us: int = -1

    def to_json(self) -> dict[str, Any]:
        """Return what a position keeps."""
        return {
            "since": self.since_us,
            "page": self.page,
            "newest": self.newest,
            "whole": self.whole,
            "largest": self.largest,
            "unsorted": self.unsorted,
            "repeats": self.repeats,
            "passed": self.passed_us,
        }

    @classmethod
    def from_json(cls, kept: Any, window: Window) -> Step:
        """Return the step of a position; of one that cannot be read, the window's first."""
        try:
            return cls(
                int(kept["since"]),
                int(kept.get("page", 1)),
                str(kept.get("newest", "")),
                str(kept.get("whole", "")),
                int(kept.get("largest", 0)),
                bool(kept.get("unsorted", False)),
                int(kept.get("repeats", 0)),
                int(kept.get("passed", -1)),
            )
        except (TypeError, KeyError, ValueError, AttributeError):
            return first_step(window)


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer as the walk sees it.

    ``times_us`` and ``identities`` have one entry a row; ``asked`` is the page size that was
    asked for, ``per_page`` the one that the server says it used, or None.
    """

    times_us: Sequence[int | None]
    identities: Sequence[bytes]
    asked: int
    per_page: int | None


def first_step(window: Window) -> Step:
    """Return the first request: from the whole second at or before the window's start."""
    return Step(window.since_us // SECOND_US * SECOND_US)


def advance(step: Step, window: Window, seen: Seen) -> tuple[Step | None, Lost | None]:
    """Return the next request, None at the window's end, and what had to be given up.

    Raises ``TransientError`` when the server repeats itself instead of answering.
    """
    if not seen.times_us:
        return None, None
    inside = [t for t in seen.times_us if t is not None and t < window.until_us + SECOND_US]
    whole = _fingerprint(seen.identities)
    if step.whole == whole and any(t < step.since_us - SECOND_US for t in inside):
        raise TransientError("the API gave its previous answer again instead of the next rows")
    if not inside:
        return _by_page(step, seen, whole), None
    second_us = max(inside) // SECOND_US * SECOND_US
    newest = _fingerprint(
        sorted(i for t, i in zip(seen.times_us, seen.identities, strict=True) if _in(t, second_us))
    )
    moved = replace(
        step,
        newest=newest,
        whole=whole,
        largest=max(step.largest, len(seen.times_us)),
        unsorted=step.unsorted or not _ascending(inside, step.since_us),
        repeats=0,
    )
    if step.page > 1 and whole == step.whole:
        return _stuck(step, window, second_us)
    stands = moved.unsorted or second_us - SECOND_US <= step.since_us
    if step.unsorted or (stands and _full(seen, moved.largest)):
        return _turn(moved, window, second_us)
    return _onwards(step, moved, second_us), None


def _onwards(step: Step, moved: Step, second_us: int) -> Step | None:
    """Go on in time; where time stands still and nothing is new, the window is at its end."""
    since_us = max(step.since_us, second_us - SECOND_US)
    if since_us > step.since_us:
        return replace(moved, since_us=since_us, page=1)
    if step.page > 1:
        return replace(moved, page=step.page + 1)
    return None if moved.newest == step.newest else moved


def _turn(moved: Step, window: Window, second_us: int) -> tuple[Step | None, Lost | None]:
    """Turn the page: there is more in this second than one answer holds."""
    if moved.page >= _MOST_PAGES:
        return _give_up(moved, window, second_us)
    return replace(moved, page=moved.page + 1), None


def _by_page(step: Step, seen: Seen, whole: str) -> Step | None:
    """Go on where no row has a usable time: by page numbers, to an empty or a known answer."""
    if whole == step.whole or step.page >= _MOST_PAGES:
        return None
    largest = max(step.largest, len(seen.times_us))
    return replace(step, page=step.page + 1, whole=whole, largest=largest)


def _stuck(step: Step, window: Window, second_us: int) -> tuple[Step | None, Lost | None]:
    """Ask again for a page that came out like the one before; then give its instant up."""
    if step.repeats < _MOST_REPEATS:
        return replace(step, repeats=step.repeats + 1), None
    return _give_up(step, window, second_us)


def _give_up(step: Step, window: Window, second_us: int) -> tuple[Step | None, Lost | None]:
    """Record what cannot be read whole and go on behind it; always further than last time."""
    detail = f"more rows at {format_us(second_us)} than the API gives out"
    lost_from_us = step.since_us if step.unsorted else second_us
    lost = Lost(UNREADABLE, lost_from_us, second_us + SECOND_US, None, detail)
    behind_us = second_us + SECOND_US - (0 if step.passed_us == second_us else 1000)
    if behind_us > window.until_us:
        return None, lost
    return Step(behind_us, largest=step.largest, passed_us=second_us), lost


def _full(seen: Seen, largest: int) -> bool:
    """Return whether the server may have had more than it gave."""
    count = len(seen.times_us)
    limit = min(seen.asked, seen.per_page or seen.asked)
    return count >= limit or (count >= largest and count >= _SMALLEST_CAP)


def _ascending(times_us: Sequence[int], since_us: int) -> bool:
    """Return whether rows come in order, give or take fractions of a second and strays."""
    seconds = [t // SECOND_US for t in times_us if t >= since_us - SECOND_US]
    return all(a <= b for a, b in pairwise(seconds))


def _in(time_us: int | None, second_us: int) -> bool:
    return time_us is not None and second_us <= time_us < second_us + SECOND_US


def _fingerprint(identities: Sequence[bytes]) -> str:
    return blake2b(b"".join(identities), digest_size=8).hexdigest()
