"""The authentication log: who tried to log in to what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forwarder.core.contracts import Page, Window
from forwarder.core.source_contract import Parts, Purpose
from forwarder.core.timing import format_seconds, format_us
from forwarder.sources.cloudflare_access.account import AccessRequestsConfig, AccountConfig
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.faults import ACCESS_REQUESTS
from forwarder.sources.cloudflare_access.filters import parameters
from forwarder.sources.cloudflare_access.pages import PageMaker
from forwarder.sources.cloudflare_access.rate_limit import Priority
from forwarder.sources.cloudflare_access.walk import SECOND_US, Advance, Step, advance, first_step

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
