"""Compares the logins that were pushed with those that the API shows. Pure.

The two logs have no id in common. A login is known by its ray id and by its time, which one of the
logs may have rounded; the same ray may have several logins. A job that does not send ``RayID`` has
logins without one: they are known by their user.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from forwarder.core.contracts import Window

APART_US = 2_000_000
"""Most microseconds between the times of one login in the two logs."""


class Seen(NamedTuple):
    """A login in one of the logs: its ray id, the address of its user, its time."""

    ray: str
    user: str
    time_us: int


def login_polled(row: Mapping[str, Any], time_us: int) -> Seen:
    """Return the login in a row of the API."""
    return _seen(row.get("ray_id"), row.get("user_email"), time_us)


def login_pushed(row: Mapping[str, Any], time_us: int) -> Seen:
    """Return the login in a pushed row."""
    return _seen(row.get("RayID"), row.get("Email"), time_us)


def _seen(ray: Any, user: Any, time_us: int) -> Seen:
    return Seen(str(ray or "").lower(), str(user or "").lower(), time_us)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many logins of a window each log has.

    ``not_pushed`` only the API shows, ``not_polled`` were only pushed. ``forgotten`` the API shows,
    and the journal has no bodies of that time any more: they may have been pushed or not.
    """

    polled: int
    pushed: int
    both: int
    not_pushed: int
    not_polled: int
    forgotten: int
    first_not_pushed_us: int | None
    last_not_pushed_us: int | None


class Comparing:
    """Counts while both logs are read in order of time, some at a time.

    Holds what it was given last and no more: what has no partner within ``APART_US`` has none.
    """

    def __init__(self, window: Window) -> None:
        """Compare what lies in ``window``; pushed logins next to it are given, too."""
        self._window = window
        self._waiting: tuple[list[Seen], list[Seen]] = ([], [])
        self._polled = self._pushed = self._both = self._forgotten = 0
        self._not_pushed = self._not_polled = 0
        self._ends_us: list[int] = []

    def add(self, polled: Iterable[Seen], pushed: Iterable[Seen], until_us: int) -> None:
        """Take the next logins of both logs; all that come later are after ``until_us``."""
        shown = [one for one in polled if self._holds(one)]
        sent = list(pushed)
        self._polled += len(shown)
        self._pushed += sum(map(self._holds, sent))
        only_polled, only_pushed = without_partner(
            [*self._waiting[0], *shown], [*self._waiting[1], *sent]
        )
        self._both += len(self._waiting[0]) + len(shown) - len(only_polled)
        settled_us = until_us - APART_US
        self._waiting = (
            [one for one in only_polled if one.time_us > settled_us],
            [one for one in only_pushed if one.time_us > settled_us],
        )
        self._settle(only_polled, only_pushed, settled_us)

    def forget(self, polled: Iterable[Seen]) -> None:
        """Take logins that the API shows and that the journal can say nothing of."""
        count = sum(map(self._holds, polled))
        self._polled += count
        self._forgotten += count

    def result(self) -> Comparison:
        """Return the counts; nothing may be added afterwards."""
        self._settle(*self._waiting, until_us=self._window.until_us + 2 * APART_US)
        return Comparison(
            self._polled,
            self._pushed,
            self._both,
            self._not_pushed,
            self._not_polled,
            self._forgotten,
            min(self._ends_us, default=None),
            max(self._ends_us, default=None),
        )

    def _settle(
        self, only_polled: Iterable[Seen], only_pushed: Iterable[Seen], until_us: int
    ) -> None:
        times = [one.time_us for one in only_polled if one.time_us <= until_us]
        self._not_pushed += len(times)
        ends_us = sorted([*self._ends_us, *times])
        self._ends_us = [*ends_us[:1], *ends_us[-1:]]
        # At the ends of the window the partner may lie outside, where the API is not asked.
        self._not_polled += sum(
            one.time_us <= until_us and self._holds(one, APART_US) for one in only_pushed
        )

    def _holds(self, one: Seen, margin_us: int = 0) -> bool:
        since_us, until_us = self._window.since_us, self._window.until_us
        return since_us + margin_us <= one.time_us <= until_us - margin_us


def without_partner(
    polled: Iterable[Seen], pushed: Iterable[Seen]
) -> tuple[list[Seen], list[Seen]]:
    """Return the polled and the pushed logins that the other log lacks.

    Pairs are made by ray id first. A login whose ray id only one of the logs has is paired by user.
    """
    only_polled, only_pushed = _left_by(polled, pushed, lambda one: one.ray or one.user)
    for has_ray in (True, False):
        # Only one of the logs has the ray of these.
        left = _left_by(
            (one for one in only_polled if bool(one.ray) == has_ray),
            (one for one in only_pushed if bool(one.ray) != has_ray),
            lambda one: one.user,
        )
        only_polled = [one for one in only_polled if bool(one.ray) != has_ray] + left[0]
        only_pushed = [one for one in only_pushed if bool(one.ray) == has_ray] + left[1]
    return only_polled, only_pushed


def _left_by(
    polled: Iterable[Seen], pushed: Iterable[Seen], key: Callable[[Seen], str]
) -> tuple[list[Seen], list[Seen]]:
    """Return what is left of both after pairing those with one ``key`` and nearly one time."""
    there: dict[str, deque[Seen]] = {}
    for one in sorted(pushed, key=lambda one: one.time_us):
        there.setdefault(key(one), deque()).append(one)
    only_polled, only_pushed = list[Seen](), list[Seen]()
    for one in sorted(polled, key=lambda one: one.time_us):
        others = there.get(key(one), deque[Seen]())
        # What is too early for this login is so for all that follow: each is looked at once.
        while others and others[0].time_us < one.time_us - APART_US:
            only_pushed.append(others.popleft())
        if others and others[0].time_us <= one.time_us + APART_US:
            others.popleft()
        else:
            only_polled.append(one)
    return only_polled, only_pushed + [other for others in there.values() for other in others]
