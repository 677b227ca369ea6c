"""What the time walk knows: the next request, and the last answer as it sees it. Pure."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

from forwarder.core.model import Window

SECOND_US = 1_000_000
END = -1
"""Instead of a ``since``: the window ends there."""
UNKNOWN, ASCENDING, UNSORTED = "", "ascending", "unsorted"
"""What a server's answers have shown of their order; one second alone shows nothing."""
_SMALLEST_CAP = 20
"""No default of the API is smaller; an answer of fewer rows that was cut is a surprise."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer as a source hands it to the walk.

    ``times_us`` and ``identities`` have one entry a row; ``asked`` is the page size that was
    asked for, ``per_page`` the one that the server says it used, or None. ``most`` is the most
    rows that any answer had so far, this one included.
    """

    times_us: Sequence[int | None]
    identities: Sequence[bytes]
    asked: int
    per_page: int | None
    most: int


@dataclass(frozen=True, slots=True)
class View:
    """An answer as the walk looks at it.

    ``second_us`` is the newest second inside the window, None when no row has a time there;
    ``oldest_us`` the oldest time, ``seconds`` those of all rows with a time in the window, in the
    order of the answer, once for neighbours that share theirs. ``newest`` is a fingerprint of the
    rows of the newest second, ``whole`` of all rows; neither depends on their order. ``limit`` is
    the most rows that were to be had, ``most`` the most that ever came.
    """

    count: int
    second_us: int | None
    oldest_us: int
    seconds: tuple[int, ...]
    newest: str
    whole: str
    limit: int
    most: int

    @classmethod
    def of(cls, seen: Seen, window: Window) -> View:
        """Look at an answer; times beyond the window do not count."""
        behind_us = window.until_us + SECOND_US
        inside = [t for t, _ in groupby(seen.times_us) if t is not None and t < behind_us]
        seconds = tuple([t // SECOND_US * SECOND_US for t in inside])
        second_us = max(seconds, default=None)
        return cls(
            len(seen.times_us),
            second_us,
            min(inside, default=0),
            seconds,
            _fingerprint(_of_second(seen, second_us)),
            _fingerprint(seen.identities),
            min(seen.asked, seen.per_page or seen.asked),
            seen.most,
        )

    def may_be_cut(self, largest: int) -> bool:
        """Say whether the server may have had more; ``largest`` is the most rows of this walk.

        One that cuts answers short without a word was never seen to give more.
        """
        return self.count >= min(self.limit, max(largest, self.most))

    def is_as_large_as(self, step: Step) -> bool:
        """Say whether this is another answer just as large: the server may give no more now."""
        return self.whole != step.whole and self.count >= max(step.largest, _SMALLEST_CAP)

    def is_probably_cut(self, largest: int) -> bool:
        """Say the same where it cannot be found out by asking for the next page."""
        return self.count >= min(self.limit, max(largest, _SMALLEST_CAP))


@dataclass(frozen=True, slots=True)
class Step:
    """The next request of a walk, and what the last answer looked like; kept as a position.

    It asks for page ``page`` from ``since_us`` on. ``newest``, ``newest_us`` and ``whole`` are the
    last answer's (see ``View``), ``largest`` the most rows an answer had, ``order`` what the
    answers have shown of the server's order. ``repeats`` counts how often the last answer came
    again.
    ``first`` is the fingerprint of page 1 while pages are turned, ``onward_us`` where to go on
    once page 1 has shown itself unchanged (None: it is not asked about), ``passes`` how often
    it had changed. ``passed_us`` is the second that was last given up.
    """

    since_us: int
    page: int = 1
    newest: str = ""
    newest_us: int = -1
    whole: str = ""
    largest: int = 0
    order: str = UNKNOWN
    repeats: int = 0
    first: str = ""
    onward_us: int | None = None
    passes: int = 0
    passed_us: int = -1

    def to_json(self) -> dict[str, Any]:
        """Return what a position keeps."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Any) -> Step | None:
        """Return the step of a position; None for one that cannot be read."""
        if not isinstance(kept, dict):
            return None
        known = {name: kept[name] for name in cls.__dataclass_fields__ if name in kept}
        fits = all(_fits(name, value) for name, value in known.items())
        return cls(**known) if fits and "since_us" in known else None

    def after(self, view: View) -> Step:
        """Return the same request with what its answer showed."""
        return replace(
            self,
            newest=view.newest,
            newest_us=-1 if view.second_us is None else view.second_us,
            whole=view.whole,
            largest=max(self.largest, view.count),
            order=self._order_after(view),
        )

    def at(self, since_us: int) -> Step:
        """Return the request that starts later and asks for page 1."""
        return replace(
            self, since_us=since_us, page=1, repeats=0, first="", onward_us=None, passes=0
        )

    def is_passed_by(self, view: View) -> bool:
        """Say whether an answer shows that time goes on: newest first may look like one second."""
        before = [self.newest_us] if self.newest_us >= 0 else []
        return len({*before, *self._seconds(view)}) > 1

    def _order_after(self, view: View) -> str:
        """Return what is known of the order, give or take fractions of a second and strays."""
        before = [self.newest_us] if self.page > 1 else []
        seconds = self._seconds(view)
        in_order = [*before, *seconds] == sorted([*before, *seconds])
        if self.order == UNSORTED or not in_order:
            return UNSORTED
        return ASCENDING if len(set(seconds)) > 1 else self.order

    def _seconds(self, view: View) -> list[int]:
        """Return the seconds of an answer but those of strays from before what was asked for."""
        return [t for t in view.seconds if t >= self.since_us - SECOND_US]


def _fits(name: str, value: Any) -> bool:
    if name in {"newest", "whole", "first", "order"}:
        return isinstance(value, str)
    return isinstance(value, int) or (name == "onward_us" and value is None)


def _of_second(seen: Seen, second_us: int | None) -> list[bytes]:
    """Return the identities of the rows of one second."""
    if second_us is None:
        return []
    timed, behind_us = zip(seen.times_us, seen.identities, strict=True), second_us + SECOND_US
    return [i for t, i in timed if t is not None and second_us <= t < behind_us]


def _fingerprint(identities: Iterable[bytes]) -> str:
    """Return 16 hex digits: the sum of what are hashes already, in whatever order."""
    words = array("Q", b"".join(identities))
    if sys.byteorder == "big":
        words.byteswap()
    return f"{sum(words) % 2**64:016x}"
