"""How one log of an account is read, page by page; the authentication log is read as a whole.

An answer's rows become a page: raw bytes, times, identities, key sets.

The authentication log: who tried to log in to what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from forwarder.core.contracts import Lost, Page, Record, Window
from forwarder.core.identity import Identifier
from forwarder.core.source_contract import Parts, Purpose, Records, joined
from forwarder.core.timing import format_seconds, format_us, times_us
from forwarder.sources.cloudflare_access.account import (
    AccessRequestsConfig,
    AccountConfig,
    parameters,
)
from forwarder.sources.cloudflare_access.answers import ACCESS_REQUESTS, Answer
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.rate_limit import Priority
from forwarder.sources.cloudflare_access.walk import (
    SECOND_US,
    Advance,
    Seen,
    Step,
    advance,
    first_step,
)

Row = Mapping[str, Any]


class PageMaker:
    """Turns answers of one stream of one account into pages.

    ``time_key`` names the row's time. ``mask`` returns a row without its secrets (the row itself
    when it has none); it is applied after the identity is taken.
    """

    def __init__(
        self,
        account_id: str,
        stream: str,
        time_key: str,
        mask: Callable[[Row], Row] | None = None,
    ) -> None:
        """Hold nothing of a page but how many rows the largest had."""
        self._identifier = Identifier(account_id, stream)
        self._time_key = time_key
        self._mask = mask
        self._most = 0

    def records(self, rows: Sequence[Row], text: bytes = b"") -> Records:
        """Return one record a row, in the order of the answer; ``text`` is ``Answer.text``."""
        identities, keys, lengths = self._identifier.identified(rows)
        parsed = rows if self._mask is None else list(map(self._mask, rows))
        if self._mask is not None or not text:
            kept = list(map(orjson.dumps, parsed))
            text, lengths = joined(kept), list(map(len, kept))
        return Records(
            text,
            lengths,
            times_us([row.get(self._time_key) for row in rows]),
            identities,
            keys,
            parsed,
        )

    def seen(self, records: Records, asked: int, per_page: int | None) -> Seen:
        """Return what the walk looks at; ``per_page`` is what the server says it used."""
        self._most = max(self._most, len(records.times_us))
        return Seen(records.times_us, records.identities, asked, per_page, self._most)

    def page(
        self,
        answer: Answer,
        records: Sequence[Record],
        position: Any | None,
        lost: Sequence[Lost] = (),
        reached_us: int | None = None,
    ) -> Page:
        """Return the page; the rows stay at hand only for ``project``."""
        return Page(
            records=records,
            position=position,
            server_time_us=answer.server_time_us,
            project=self._projector(answer.rows),
            lost=tuple(lost),
            malformed=answer.malformed,
            reached_us=reached_us,
        )

    def _projector(self, rows: Sequence[Row]) -> Callable[[int, frozenset[str]], bytes]:
        """Return what gives rows the identities they had when rows carried only some keys.

        Copies are counted among the rows as they were then: two rows that only a new key tells
        apart were twins, and twins stay two.
        """
        known: dict[frozenset[str], list[bytes]] = {}

        def project(index: int, keys: frozenset[str]) -> bytes:
            if keys not in known:
                before = [{key: row[key] for key in keys if key in row} for row in rows]
                known[keys] = self._identifier.identities(before)
            return known[keys][index]

        return project


STREAM = "access_requests"


def request_parameters(step: Step, window: Window, page_size: int) -> list[tuple[str, str]]:
    """Return the parameters of the walk's next request.

    ``limit`` and ``per_page`` go together: the default of one would cut the other. Times are
    whole seconds wherever they can be, since a server may cut them.
    """
    until_us = -(-window.until_us // SECOND_US) * SECOND_US
    since = format_us if step.since_us % SECOND_US else format_seconds
    return [
        ("direction", "asc"),
        ("since", since(step.since_us)),
        ("until", format_seconds(until_us)),
        ("page", str(step.page)),
        ("per_page", str(page_size)),
        ("limit", str(page_size)),
    ]


def urgency(step: Step, config: AccountConfig) -> float:
    """Return when the rows to be read expire, in seconds since 1970: the soonest goes first."""
    return step.since_us / SECOND_US + config.retention


class AccessRequests:
    """Reads ``access_requests`` of one account; implements ``core.contracts.Source``."""

    def __init__(
        self,
        api: Api,
        account: AccountConfig,
        config: AccessRequestsConfig,
        *,
        advance: Advance = advance,
    ) -> None:
        """Do no I/O."""
        self._api = api
        self._advance = advance
        self._account = account
        self._config = config
        self._query = parameters(STREAM, config.query)
        self._pages = PageMaker(account.account_id, STREAM, "created_at")

    async def fetch(
        self,
        window: Window,
        position: Any | None,
        *,
        parts: Sequence[str] = (),  # noqa: ARG002 - this stream has none
        purpose: Purpose = Purpose.LIVE,
    ) -> Page:
        """Read one page of the walk through ``window``."""
        step = Step.from_json(position) or first_step(window)
        size = self._config.page_size
        answer = await self._api.get(
            ACCESS_REQUESTS,
            [*request_parameters(step, window, size), *self._query],
            priority=Priority(purpose),
            urgency=urgency(step, self._account),
        )
        records = self._pages.records(answer.rows, answer.text)
        following, lost = self._advance(
            step, window, self._pages.seen(records, size, answer.per_page)
        )
        return self._pages.page(
            answer,
            records,
            following and following.to_json(),
            [lost] if lost else (),
            following.since_us if following else None,
        )

    async def parts(self, memory: Any | None, now_us: int) -> Parts:  # noqa: ARG002 - the contract's
        """Say that this stream is read as a whole."""
        return Parts()

    async def server_time_us(self) -> int:
        """Return Cloudflare's clock in microseconds since 1970."""
        return await self._api.server_time_us()
