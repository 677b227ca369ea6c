"""The time walk: where the next request of a window starts. Pure.

A request asks for rows from ``since`` on, oldest first. The next one starts a second before the
second of the newest row, so it does not matter whether ``since`` is inclusive or cut to whole
seconds, and rows that expire or arrive meanwhile shift nothing out of sight. Page numbers serve
only where a later start would shed no row (more of them in two seconds than an answer holds), and
for a server that ignores the order.

A window ends at an empty answer, or at one that stands still in time, is smaller than others were
and brings the newest second unchanged. The server's word for where things end (``total_count``,
a short page) is never taken. An instant that cannot be read whole is given up and recorded.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

from forwarder.core.contracts import Lost, Window
from forwarder.core.timing import format_us

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

    ``times_us`` and ``identities`` have one entry a row; ``asked`` is the requested page size,
    ``per_page`` the one that the server says it used, or None. ``most`` is the most rows that any
    answer had so far, this one included.
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
    rows of the newest second, ``whole`` of all rows; neither depends on their order. ``head`` has
    the first row, and the first one with a time in the window. ``limit`` is the most rows that
    were to be had, ``most`` the most that ever came, ``asked`` the requested page size.
    """

    count: int
    second_us: int | None
    oldest_us: int
    seconds: tuple[int, ...]
    newest: str
    whole: str
    head: str
    limit: int
    most: int
    asked: int
    identities: Sequence[bytes]

    @classmethod
    def of(cls, seen: Seen, window: Window) -> View:
        """Return the view of an answer; times beyond the window do not count."""
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
            _head(seen, behind_us),
            min(seen.asked, seen.per_page or seen.asked),
            seen.most,
            seen.asked,
            seen.identities,
        )

    def may_be_cut(self, largest: int) -> bool:
        """Return True if there may have been more; ``largest`` is the most rows of this walk."""
        # A server that cuts answers short silently was never seen to give more.
        return self.count >= min(self.limit, max(largest, self.most))

    def is_as_large_as(self, step: Step) -> bool:
        """Return True if this is another answer just as large: the server may give no more now."""
        return self.whole != step.whole and self.count >= max(step.largest, _SMALLEST_CAP)

    def is_probably_cut(self, largest: int) -> bool:
        """Return ``may_be_cut`` for where the next page cannot answer that."""
        return self.count >= min(self.limit, max(largest, _SMALLEST_CAP))

    def still_has(self, head: str) -> bool:
        """Return True if the rows of an earlier ``head`` are all in this answer."""
        return bool(head) and set(head.split()) <= set(map(_short, self.identities))


@dataclass(frozen=True, slots=True)
class Step:
    """The next request of a walk, and what the last answer looked like; kept as a position.

    It requests page ``page`` from ``since_us`` on. ``newest``, ``newest_us`` and ``whole`` are the
    last answer's (see ``View``), ``largest`` the most rows an answer had, ``order`` what the
    answers have shown of the server's order. ``repeats`` counts how often the last answer came
    again.

    While pages are turned ``size`` is the page size that they count in, and ``first`` and ``head``
    are page 1's. Before the pages are left page 1 is read once more: ``onward_us`` is where to go
    from there (None: pages are not left yet), ``passes`` how often rows had left page 1.
    ``passed_us`` is the second that was last given up.
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
    head: str = ""
    size: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return what a position keeps."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Any) -> Step | None:
        """Return the step of a position; None if it cannot be read."""
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
        """Return the request for page 1 from ``since_us`` on."""
        return replace(
            self,
            since_us=since_us,
            page=1,
            repeats=0,
            first="",
            onward_us=None,
            passes=0,
            head="",
            size=0,
        )

    def is_passed_by(self, view: View) -> bool:
        """Return True if an answer shows rows of more than one second."""
        # A single second proves nothing: newest first looks the same.
        before = [self.newest_us] if self.newest_us >= 0 else []
        return len({*before, *self._seconds(view)}) > 1

    def _order_after(self, view: View) -> str:
        """Return what is known of the order, give or take fractions of a second and strays."""
        seconds = self._seconds(view)
        # Of the page before only the newest second counts: rows that arrive late push others over
        # to this page, whose oldest rows are then older than the newest of the page before.
        goes_back = self.page > 1 and bool(seconds) and max(seconds) < self.newest_us
        if self.order == UNSORTED or goes_back or seconds != sorted(seconds):
            return UNSORTED
        return ASCENDING if len(set(seconds)) > 1 else self.order

    def _seconds(self, view: View) -> list[int]:
        """Return the seconds of an answer but those of strays from before the requested time."""
        return [t for t in view.seconds if t >= self.since_us - SECOND_US]


def _fits(name: str, value: Any) -> bool:
    if name in {"newest", "whole", "first", "order", "head"}:
        return isinstance(value, str)
    return isinstance(value, int) or (name == "onward_us" and value is None)


def _of_second(seen: Seen, second_us: int | None) -> list[bytes]:
    """Return the identities of the rows of one second."""
    if second_us is None:
        return []
    timed, behind_us = zip(seen.times_us, seen.identities, strict=True), second_us + SECOND_US
    return [i for t, i in timed if t is not None and second_us <= t < behind_us]


def _head(seen: Seen, behind_us: int) -> str:
    """Return the first row, and the first one with a time in the window, in 16 digits each."""
    timed = zip(seen.times_us, seen.identities, strict=True)
    firsts = [*seen.identities[:1], *(i for t, i in timed if t is not None and t < behind_us)][:2]
    return " ".join(map(_short, firsts))


def _short(identity: bytes) -> str:
    return identity[:8].hex()


def _fingerprint(identities: Iterable[bytes]) -> str:
    """Return 16 hex digits: the sum of what are hashes already, so their order does not matter."""
    words = array("Q", b"".join(identities))
    # A position is stored, and a machine with the other byte order may read it.
    if sys.byteorder == "big":
        words.byteswap()
    return f"{sum(words) % 2**64:016x}"


UNREADABLE = "instant_unreadable"
_MOST_PAGES = 10_000
_MOST_REPEATS = 2
_MOST_PASSES = 5

Move = tuple[Step | None, Lost | None]
"""The next request, None at the window's end; and what had to be given up."""

Advance = Callable[[Step, Window, Seen], Move]
"""How a source walks; ``advance`` but in tests that show what else would lose rows."""


def first_step(window: Window) -> Step:
    """Return the first request: from before the window's start, should ``since`` be exclusive."""
    return Step((window.since_us // SECOND_US - 1) * SECOND_US)


def advance(step: Step, window: Window, seen: Seen) -> Move:
    """Return the next request and what had to be given up. Ends for whatever a server answers."""
    view = View.of(seen, window)
    if not view.count:
        return _leave(step, END) if step.onward_us is None else None, None
    if step.onward_us is not None:
        return _checked(step, window, view)
    return _read(step, window, view)


def _read(step: Step, window: Window, view: View) -> Move:
    if view.second_us is None:
        return _by_page(step, window, view)
    # The same page twice: the server ignores page numbers, or repeats itself.
    if step.page > 1 and step.whole == view.whole:
        return _stuck(step, window, view)
    if _is_stale(step, view) and step.repeats < _MOST_REPEATS:
        return replace(step, repeats=step.repeats + 1), None
    return _proceed(step, step.after(view), window, view)


def _proceed(step: Step, moved: Step, window: Window, view: View) -> Move:
    """Turn the page, leave the pages, or start later."""
    since_us = moved.newest_us - SECOND_US
    later = since_us > step.since_us
    if moved.order == UNSORTED or (step.page > 1 and not (later and step.is_passed_by(view))):
        return _turn(moved, window, view)
    if step.page > 1:
        return _leave(moved, since_us), None
    if later and view.oldest_us < since_us and moved.order == ASCENDING:
        return moved.at(since_us), None
    cut = view.may_be_cut(moved.largest) or view.is_as_large_as(step)
    if cut or moved.newest_us < step.newest_us:
        return _turn(moved, window, view)
    return _onwards(step, moved, since_us), None


def _is_stale(step: Step, view: View) -> bool:
    """Return True if this may be an earlier answer again: rows from before the requested time.

    A server that always gives more than requested is believed after two requests.
    """
    before_us = step.since_us - SECOND_US
    newest_us = before_us if view.second_us is None else view.second_us
    return newest_us < before_us or (step.whole == view.whole and view.oldest_us < before_us)


def _onwards(step: Step, moved: Step, since_us: int) -> Step | None:
    """Start later; where time stands still and nothing is new, the window is at its end."""
    if since_us > step.since_us:
        return moved.at(since_us)
    if moved.newest == step.newest or step.repeats >= _MOST_REPEATS:
        return None
    return replace(moved, repeats=step.repeats + 1)


def _turn(moved: Step, window: Window, view: View) -> Move:
    """Turn the page: there may be more from here than one answer holds."""
    # Ten million rows from one moment on: this server gives new pages for ever.
    if moved.page >= _MOST_PAGES:
        return _give_up(moved, window, view)
    first, head = moved.first, moved.head
    if moved.page == 1:
        first, head = (view.whole, view.head) if view.may_be_cut(moved.largest) else ("", "")
    turned = replace(moved, page=moved.page + 1, first=first, head=head, size=view.asked, repeats=0)
    return turned, None


def _leave(step: Step, onward_us: int) -> Step | None:
    """Go on behind the pages, or read the first once more before that."""
    if step.page > 1 and step.first:
        return replace(step, page=1, onward_us=onward_us, repeats=0)
    return None if onward_us == END else step.at(onward_us)


def _checked(step: Step, window: Window, view: View) -> Move:
    """Leave the pages if no row has left the first one meanwhile; otherwise read them again."""
    onward_us = END if step.onward_us is None else step.onward_us
    harmless = view.whole == step.first or _has_only_grown(step, view)
    if harmless or step.passes >= _MOST_PASSES:
        lost = None if harmless else _lost(step.since_us, view, step)
        return (None if onward_us == END else step.at(onward_us)), lost
    first = Step(step.since_us, largest=step.largest, order=step.order)
    return _read(replace(first, passes=step.passes + 1), window, view)


def _has_only_grown(step: Step, view: View) -> bool:
    """Return True if rows have arrived since page 1 was read, and none has expired."""
    # Rows expire oldest first and pull later rows from page 2 over to page 1, where nobody looks.
    # While the oldest row of page 1 is there nothing was pulled; rows that arrive only push.
    return step.order != UNSORTED and view.still_has(step.head)


def _by_page(step: Step, window: Window, view: View) -> Move:
    """Go on where no row has a usable time: by page numbers, to an empty or a known answer."""
    lost = Lost(UNREADABLE, step.since_us, window.until_us, None, "more rows without a time")
    if view.whole != step.whole and step.page < _MOST_PAGES:
        known = replace(step, whole=view.whole, largest=max(step.largest, view.count))
        return _turn(known, window, view)
    if not view.is_probably_cut(step.largest):
        return None, None
    if step.repeats < _MOST_REPEATS:
        return replace(step, repeats=step.repeats + 1), None
    return None, lost


def _stuck(step: Step, window: Window, view: View) -> Move:
    """Request a page again that came out like the one before; then go on without page numbers."""
    if not view.is_probably_cut(step.largest):
        return None, None
    if step.repeats < _MOST_REPEATS:
        return replace(step, repeats=step.repeats + 1), None
    since_us = (view.second_us or 0) - SECOND_US
    # Only a server that has shown its order hides nothing older behind an answer that it cuts.
    if since_us > step.since_us and step.order == ASCENDING:
        return step.at(since_us), None
    return _give_up(step, window, view)


def _give_up(step: Step, window: Window, view: View) -> Move:
    """Record what cannot be read whole and go on behind it; always further than last time."""
    second_us = max(view.second_us or 0, step.since_us // SECOND_US * SECOND_US)
    lost = _lost(second_us if step.order == ASCENDING else step.since_us, view, step)
    behind_us = second_us + SECOND_US - (0 if step.passed_us == second_us else 1000)
    if behind_us > window.until_us:
        return None, lost
    behind = Step(behind_us, largest=step.largest, order=step.order, passed_us=second_us)
    return behind, lost


def _lost(since_us: int, view: View, step: Step) -> Lost:
    until_us = max(view.second_us or 0, step.newest_us, since_us) + SECOND_US
    detail = f"more rows from {format_us(since_us)} on than the API gives out"
    return Lost(UNREADABLE, since_us, until_us, None, detail)
