"""The time walk: where the next request of a window starts. Pure.

A request asks for rows from ``since`` on, oldest first. The next one starts a second before the
second of the newest row, so it does not matter whether ``since`` is inclusive or cut to whole
seconds, and rows that expire or arrive meanwhile shift nothing out of sight. Page numbers serve
only where starting later would shed no row (more of them in two seconds than an answer holds), and
for a server that ignores the order. Time goes on past rows that an answer had no room for only
where a server has shown its order: a cut answer of one second looks the same oldest and newest
first. Rows that expire shift pages, so that page 1 is looked at once more before pages are left:
only when it is what it was have they hidden nothing.

A window ends at an empty answer, or at one that stands still in time, is smaller than others were
and brings the newest second unchanged. The server's word for where things end (``total_count``,
a short page) is never taken. An instant that cannot be read whole is given up and recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from forwarder.core.model import Lost, Window
from forwarder.core.timestamps import format_us
from forwarder.sources.cloudflare_access.steps import (
    ASCENDING,
    END,
    SECOND_US,
    UNSORTED,
    Seen,
    Step,
    View,
)

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
    if step.page > 1 and step.whole == view.whole:
        return _stuck(step, window, view)
    if _is_stale(step, view) and step.repeats < _MOST_REPEATS:
        return replace(step, repeats=step.repeats + 1), None
    return _proceed(step, step.after(view), window, view)


def _proceed(step: Step, moved: Step, window: Window, view: View) -> Move:
    """Turn the page, leave the pages, or go on in time."""
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
    """Say whether this may be an earlier answer once more: rows from before what was asked for.

    A server that always gives more than was asked for is believed after two questions.
    """
    before_us = step.since_us - SECOND_US
    newest_us = before_us if view.second_us is None else view.second_us
    return newest_us < before_us or (step.whole == view.whole and view.oldest_us < before_us)


def _onwards(step: Step, moved: Step, since_us: int) -> Step | None:
    """Go on in time; where time stands still and nothing is new, the window is at its end."""
    if since_us > step.since_us:
        return moved.at(since_us)
    if moved.newest == step.newest or step.repeats >= _MOST_REPEATS:
        return None
    return replace(moved, repeats=step.repeats + 1)


def _turn(moved: Step, window: Window, view: View) -> Move:
    """Turn the page: there may be more from here than one answer holds."""
    if moved.page >= _MOST_PAGES:
        return _give_up(moved, window, view)
    first = moved.first
    if moved.page == 1:
        first = view.whole if view.may_be_cut(moved.largest) else ""
    return replace(moved, page=moved.page + 1, first=first, repeats=0), None


def _leave(step: Step, onward_us: int) -> Step | None:
    """Go on behind the pages, or look at the first once more before that."""
    if step.page > 1 and step.first:
        return replace(step, page=1, onward_us=onward_us, repeats=0)
    return None if onward_us == END else step.at(onward_us)


def _checked(step: Step, window: Window, view: View) -> Move:
    """Leave the pages if the first has not changed meanwhile; otherwise read them again."""
    onward_us = END if step.onward_us is None else step.onward_us
    if view.whole == step.first or step.passes >= _MOST_PASSES:
        lost = None if view.whole == step.first else _lost(step.since_us, view, step)
        return (None if onward_us == END else step.at(onward_us)), lost
    anew = Step(step.since_us, largest=step.largest, order=step.order)
    return _read(replace(anew, passes=step.passes + 1), window, view)


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
    """Ask again for a page that came out like the one before; then go on without page numbers.

    Only a server that has shown its order hides nothing older behind an answer that it cuts.
    """
    if not view.is_probably_cut(step.largest):
        return None, None
    if step.repeats < _MOST_REPEATS:
        return replace(step, repeats=step.repeats + 1), None
    since_us = (view.second_us or 0) - SECOND_US
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
