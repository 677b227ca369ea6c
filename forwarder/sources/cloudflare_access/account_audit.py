"""The account's audit log: who changed what, read page by page with Cloudflare's cursors.

A window is frozen when its first page is requested, and its cursor leads through it, oldest rows
first. A cursor is worth nothing by itself: Cloudflare forgets it, and it may lead in a circle. The
walk then continues by time, from the newest second that was read. That hides nothing if the rows
came in their order. What cannot be read in any way is recorded as lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import blake2b
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias

import orjson

from forwarder.core.contracts import Lost, Page, Window
from forwarder.core.source_contract import Parts, Purpose
from forwarder.core.timing import format_seconds, format_us
from forwarder.sources.cloudflare_access.account import AccountAuditConfig, AccountConfig
from forwarder.sources.cloudflare_access.activity_mapping import (
    concerns_access,
    mask_audit,
    native_id,
)
from forwarder.sources.cloudflare_access.answers import ACCOUNT_AUDIT, Answer, RequestRefusedError
from forwarder.sources.cloudflare_access.api import Api, off_loop
from forwarder.sources.cloudflare_access.logs import PageMaker
from forwarder.sources.cloudflare_access.walk import SECOND_US, UNREADABLE
from forwarder.transport.http import AnswerTooLargeError

RETENTION = 18 * 30 * 86_400.0
"""How long Cloudflare keeps this log on every plan, in seconds."""
_MOST_PAGES = 10_000
_MOST_RESTARTS = 2


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer as the walk looks at it: the times of its rows, in order, and the next cursor.

    ``full`` is True if there are as many rows as were requested.
    """

    times_us: Sequence[int | None]
    cursor: str
    full: bool


@dataclass(frozen=True, slots=True)
class Place:
    """The next request of a window; kept as a position.

    It asks for rows from ``since_us`` on, or with ``cursor`` for the page that it leads to.
    ``newest_us`` is the newest second that was read, -1 for none. ``ordered`` is True while the
    answers have more than one second and ascend, ``unordered`` once they do not. ``mark`` is an
    earlier cursor's hash and ``pages`` the number of pages since ``since_us``. ``restarts`` counts
    restarts that led nowhere, ``passed_us`` is the second that was last given up. ``query`` is a
    hash of the filters that the cursor belongs to.
    """

    since_us: int
    query: str
    cursor: str = ""
    newest_us: int = -1
    ordered: bool = False
    unordered: bool = False
    mark: str = ""
    pages: int = 0
    restarts: int = 0
    passed_us: int = -1

    @classmethod
    def first(cls, window: Window, query: str) -> Place:
        """Return the first request: from before the window's start, should it be exclusive."""
        return cls((window.since_us // SECOND_US - 1) * SECOND_US, query)

    @classmethod
    def from_json(cls, kept: Any, query: str) -> Place | None:
        """Return the place of a position; None if it is of another version or other filters."""
        if not isinstance(kept, dict) or kept.keys() != cls.__dataclass_fields__.keys():
            return None
        fits = all(type(kept[key]) is type(value) for key, value in asdict(cls(0, "")).items())
        return cls(**kept) if fits and kept["query"] == query else None

    @property
    def reached_us(self) -> int | None:
        """Return up to when everything has been read, None while nobody can say."""
        known = self.newest_us >= 0 and self.ordered and not self.unordered
        return self.newest_us if known else None

    def after(self, seen: Seen) -> Place:
        """Return the same request with what its answer has shown."""
        seconds = [t // SECOND_US * SECOND_US for t in seen.times_us if t is not None]
        known = [self.newest_us] if self.newest_us >= 0 else []
        falls = any(before > after for before, after in pairwise([*known, *seconds]))
        return replace(
            self,
            newest_us=max([*known, *seconds], default=-1),
            ordered=self.ordered or len({*known, *seconds}) > 1,
            unordered=self.unordered or falls,
        )

    def turned(self, cursor: str) -> Place:
        """Return the request for the page that ``cursor`` leads to."""
        # The mark moves at every power of two, so that it meets a circle of any length.
        moves = self.pages & (self.pages - 1) == 0
        mark = _short(cursor) if moves else self.mark
        return replace(self, cursor=cursor, mark=mark, pages=self.pages + 1)

    def met(self, cursor: str) -> bool:
        """Return True if ``cursor`` leads to where the reading has been."""
        return cursor == self.cursor or _short(cursor) == self.mark

    def by_time(self, since_us: int) -> Place:
        """Return a request without a cursor, from ``since_us`` on."""
        return replace(self, since_us=since_us, cursor="", mark="", pages=0, newest_us=-1)


Move: TypeAlias = tuple[Place | None, Lost | None]
"""The next request, None at the window's end; and what had to be given up."""


def advance(place: Place, window: Window, seen: Seen) -> Move:
    """Return the next request. Ends for whatever a server answers."""
    moved = place.after(seen)
    if seen.cursor and not place.met(seen.cursor) and place.pages < _MOST_PAGES:
        return moved.turned(seen.cursor), None
    # A full first page without a cursor is no end: the cursor may stand where nobody looks for it.
    cut = bool(seen.times_us) if seen.cursor else seen.full and place.pages == 0
    return resumed(moved, window) if cut else (None, None)


def resumed(place: Place, window: Window) -> Move:
    """Continue without the cursor: behind what was read, or from the start again."""
    since_us = place.newest_us - SECOND_US
    ascends = place.reached_us is not None
    if ascends and since_us > place.since_us:
        return replace(place.by_time(since_us), restarts=0), None
    if place.restarts < _MOST_RESTARTS:
        return replace(place.by_time(place.since_us), restarts=place.restarts + 1), None
    if not ascends:
        return None, _lost(place.since_us, window.until_us)
    second_us = place.newest_us
    behind_us = second_us + SECOND_US - (0 if place.passed_us == second_us else 1000)
    lost = _lost(second_us, second_us + SECOND_US)
    if behind_us > window.until_us:
        return None, lost
    return replace(place.by_time(behind_us), restarts=0, passed_us=second_us), lost


def _lost(since_us: int, until_us: int) -> Lost:
    detail = f"more rows from {format_us(since_us)} on than the API gives out"
    return Lost(UNREADABLE, since_us, until_us, None, detail)


def _short(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


class AccountAudit:
    """The audit log of one account; implements ``core.source_contract.Source``."""

    stream: ClassVar[str] = ACCOUNT_AUDIT.name

    def __init__(self, api: Api, account: AccountConfig, config: AccountAuditConfig) -> None:
        """Do no I/O."""
        self._api = api
        self._size = config.page_size
        self._every = config.products != "access"
        self._filters = filters(config)
        self._query = _short(orjson.dumps(self._filters).decode())
        mask = partial(mask_audit, bodies=config.bodies)
        self._pages = PageMaker(account.account_id, self.stream, "action.time", mask, native_id)

    async def fetch(
        self,
        window: Window,
        position: Any | None,
        *,
        parts: Sequence[str] = (),  # noqa: ARG002 - this stream has none
        purpose: Purpose = Purpose.LIVE,
    ) -> Page:
        """Read the next page of the window."""
        place = Place.from_json(position, self._query) or Place.first(window, self._query)
        lost: list[Lost] = []
        while True:
            try:
                answer, full = await self._request(place, window, purpose)
            except RequestRefusedError as error:
                # Without a cursor it is the filters that are refused, and a person must act.
                if error.about != "parameters" or not place.cursor:
                    raise
                following, gone = resumed(place, window)
                lost += [gone] if gone else []
                if following is None:
                    return self._pages.page(Answer([], None, None), [], None, lost)
                place = following
            else:
                return await self._page(place, window, answer, lost, full=full)

    async def parts(self, memory: Any | None, now_us: int) -> Parts:  # noqa: ARG002 - the contract's
        """Return no parts: this stream is read as a whole."""
        return Parts()

    async def server_time_us(self) -> int:
        """Return Cloudflare's clock in microseconds since 1970."""
        return await self._api.server_time_us()

    async def _page(
        self, place: Place, window: Window, answer: Answer, lost: Sequence[Lost], *, full: bool
    ) -> Page:
        whole = await off_loop(answer.size, lambda: self._pages.records(answer.rows))
        following, gone = advance(place, window, Seen(whole.times_us, answer.cursor, full))
        wanted = [at for at, row in enumerate(answer.rows) if self._every or concerns_access(row)]
        rows, records = [answer.rows[at] for at in wanted], whole.part(wanted)
        contents = await off_loop(answer.size, lambda: self._pages.contents(rows))
        return self._pages.page(
            replace(answer, rows=rows),
            records,
            following and asdict(following),
            [*lost, *([gone] if gone else [])],
            following.reached_us if following else None,
            contents,
        )

    async def _request(self, place: Place, window: Window, purpose: Purpose) -> tuple[Answer, bool]:
        """Return an answer that fits, and True if it has all rows that it may have."""
        while True:
            size = self._size
            try:
                answer = await self._api.get(
                    ACCOUNT_AUDIT,
                    [*request_parameters(place, window, size), *self._filters],
                    purpose=purpose,
                    urgency=place.since_us / SECOND_US + RETENTION,
                    smallest=size == 1,
                )
            except AnswerTooLargeError:
                if size == 1:
                    raise
                # Rows of this log have bodies: a thousand of them may be tens of megabytes.
                self._size = size // 2
            else:
                return answer, len(answer.rows) >= size


def filters(config: AccountAuditConfig) -> list[tuple[str, str]]:
    """Return the parameters by which Cloudflare filters rows."""
    products = () if isinstance(config.products, str) else config.products
    return [("product_category", name) for name in products]


def request_parameters(place: Place, window: Window, page_size: int) -> list[tuple[str, str]]:
    """Return the parameters of the walk's next request."""
    since = format_us if place.since_us % SECOND_US else format_seconds
    # Rounded up: the part of a second that is cut off would hide its rows.
    before_us = -(-window.until_us // SECOND_US) * SECOND_US
    cursor = [("cursor", place.cursor)] if place.cursor else []
    return [
        # Never left to the API's default: the walk goes forward in time.
        ("direction", "asc"),
        ("since", since(place.since_us)),
        ("before", format_seconds(before_us)),
        ("limit", str(page_size)),
        *cursor,
    ]
