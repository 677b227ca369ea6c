"""Temporary access: what becomes of requests for it, one event for each step of a request.

Cloudflare lists requests by when they were made, and a request changes for as long as it is open.
So each round lists the requests of the last days and reads every one that is listed with something
else than last time. A login changes nothing in the list: open requests are read every few minutes
in any case. What is known of requests stays in memory only; after a restart each is read once more,
and the journal knows its steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, TypeAlias

from forwarder.core.contracts import Lost, Page, Window
from forwarder.core.identity import dumps
from forwarder.core.schema import MALFORMED_KEY, RAW_BYTES_KEY
from forwarder.core.source_contract import Parts, Purpose
from forwarder.core.timing import format_seconds, parse_us
from forwarder.sources.cloudflare_access.account import AccountConfig, JitRequestsConfig
from forwarder.sources.cloudflare_access.activity_mapping import (
    OF_REQUEST,
    REQUEST_ID,
    mask_step,
    step_id,
    text,
)
from forwarder.sources.cloudflare_access.answers import (
    JIT_REQUESTS,
    Answer,
    Endpoint,
    Opened,
    RequestRefusedError,
    Response,
    error_for,
    granted,
    open_body,
    refusal_of,
)
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.logs import PageMaker
from forwarder.sources.cloudflare_access.walk import SECOND_US, UNREADABLE

Row = Mapping[str, Any]
Known: TypeAlias = tuple[bytes, int]
"""A hash of how the list shows a request, and when it is read again in any case (microseconds)."""

_ENDED = frozenset({"DENIED", "CANCELED"})
JIT_RETENTION = 366 * 86_400.0
"""How far back the list reaches, in seconds."""
_NOT_FOUND = 404
_MOST_PAGES = 1000
# Each request costs one of the token's: a hundred open ones must not starve the logins.
_RECHECK_US = 300 * SECOND_US
_NEVER = 2**63
_MOST_KNOWN = 20_000
HOLD_BACK = 360.0
"""Seconds after which every step has been read: a login may be found five minutes late."""


class JitRequests:
    """The requests for temporary access of one account; implements ``Source``."""

    stream: ClassVar[str] = JIT_REQUESTS.name

    def __init__(self, api: Api, account: AccountConfig, config: JitRequestsConfig) -> None:
        """Do no I/O."""
        self._api = api
        self._follow_us = round(config.follow * SECOND_US)
        self._size = config.page_size
        self._pages = PageMaker(
            account.account_id, self.stream, "event.timestamp", mask_step, step_id
        )
        self._known: dict[str, Known] = {}

    async def fetch(
        self,
        window: Window,
        position: Any | None,
        *,
        parts: Sequence[str] = (),  # noqa: ARG002 - this stream has none
        purpose: Purpose = Purpose.LIVE,
    ) -> Page:
        """Read the steps of the requests on the next page of the list."""
        page, before = _place(position)
        urgency = window.since_us / SECOND_US + JIT_RETENTION
        answer = await self._api.get(
            JIT_REQUESTS,
            [
                ("since", format_seconds(window.since_us - self._follow_us)),
                ("until", format_seconds(window.until_us + SECOND_US)),
                ("page", str(page)),
                ("per_page", str(self._size)),
            ],
            purpose=purpose,
            urgency=urgency,
        )
        listed = _hash(answer.rows).hex()
        if listed == before:
            reason = "the list of requests for temporary access ignores page numbers"
            since_us = window.since_us - self._follow_us
            unread = Lost(UNREADABLE, since_us, window.until_us, None, reason)
            return self._pages.page(answer, self._pages.records([]), None, [unread])
        rows, lost, learned = list[Row](), list[Lost](), dict[str, Known]()
        malformed = answer.malformed
        for request in answer.rows:
            steps, broken, gone = await self._steps(request, window, purpose, urgency, learned)
            rows += steps
            malformed += broken
            lost += gone
        # Not before the last of them: after an outage in between, all are read again.
        self._learn(learned)
        more = len(answer.rows) >= self._size and page < _MOST_PAGES
        following = {"page": page + 1, "listed": listed} if more else None
        read = Answer([dict(row) for row in rows], answer.server_time_us, None, malformed)
        return self._pages.page(read, self._pages.records(read.rows), following, lost)

    async def parts(self, memory: Any | None, now_us: int) -> Parts:  # noqa: ARG002 - the contract's
        """Return no parts: this stream is read as a whole."""
        return Parts()

    async def server_time_us(self) -> int:
        """Return Cloudflare's clock in microseconds since 1970."""
        return await self._api.server_time_us()

    def _learn(self, learned: Mapping[str, Known]) -> None:
        if len(self._known) >= _MOST_KNOWN:
            # Forgetting costs a request for each that is still listed, and no step.
            self._known.clear()
        self._known.update(learned)

    async def _steps(
        self,
        request: Row,
        window: Window,
        purpose: Purpose,
        urgency: float,
        learned: dict[str, Known],
    ) -> tuple[list[Row], int, list[Lost]]:
        """Return a row for each step of a request, how many are malformed, and what is lost.

        There are none if it need not be read now. Adds to ``learned`` what is known of it then.
        """
        name, content = text(request.get(REQUEST_ID)), _hash(request)
        if not name:
            # Malformed, or of a form that nobody knows: a record like any other.
            return [request], 0, []
        known, due_us = self._known.get(name, (b"", 0))
        # Only the live reader skips: the others are there to find what it has missed.
        if purpose is Purpose.LIVE and known == content and window.until_us < due_us:
            return [], 0, []
        try:
            found = await self._api.get_one(
                JIT_REQUESTS, name, read_request, purpose=purpose, urgency=urgency
            )
        except RequestRefusedError as error:
            if error.status != _NOT_FOUND:
                raise
            return [], 0, [_lost(request, window, "is listed and cannot be read")]
        # Nobody says if the page was stored: its last steps are read twice before it is left alone.
        over = known == content and _is_closed(request, window)
        learned[name] = content, _NEVER if over else window.until_us + _RECHECK_US
        detail = found.envelope["result"]
        shared = {key: detail[key] for key in OF_REQUEST if key in detail} | {REQUEST_ID: name}
        if found.rows is None:
            return [], 0, [_lost(request, window, "has no list of events")]
        return [_step(shared, one) for one in found.rows], found.malformed, []


def read_request(response: Response, endpoint: Endpoint, now_us: int) -> Opened:
    """Return a request: ``result`` of the envelope, with its events as rows.

    Raises as ``answers.read_rows`` does.
    """
    found = open_body(response, ("result", "events"))
    if not granted(response, found.envelope) or not isinstance(found.envelope.get("result"), dict):
        raise error_for(refusal_of(response, found.envelope, now_us), endpoint)
    return found


def _step(shared: Row, event: Row) -> Row:
    """Return the row of an event; what marks it as malformed marks the row."""
    marks = {key: event[key] for key in (MALFORMED_KEY, RAW_BYTES_KEY) if key in event}
    return {**shared, "event": {k: v for k, v in event.items() if k not in marks}, **marks}


def _lost(request: Row, window: Window, what: str) -> Lost:
    created_us = parse_us(request.get("created_at")) or window.since_us
    detail = f"a request for temporary access {what}"
    return Lost(UNREADABLE, created_us, created_us, None, detail)


def _is_closed(request: Row, window: Window) -> bool:
    """Return True if nothing more can happen: it was refused, withdrawn, or has run out."""
    expires_us = parse_us(request.get("expires_at"))
    ended = text(request.get("status")) in _ENDED
    return ended or (expires_us is not None and expires_us < window.since_us)


def _place(position: Any) -> tuple[int, str]:
    """Return the page of a position, and what the page before listed."""
    kept = position if isinstance(position, dict) else {}
    page, listed = kept.get("page"), kept.get("listed")
    return (page, listed) if isinstance(page, int) and isinstance(listed, str) else (1, "")


def _hash(value: Any) -> bytes:
    return blake2b(dumps(value), digest_size=16).digest()
