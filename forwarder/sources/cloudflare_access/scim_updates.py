"""The provisioning log: what identity providers changed, read for a list of their ids.

A position holds the ids that its window is read for, in chunks; each chunk is walked through the
whole window before the next. A chunk that Cloudflare refuses is halved until the refused id
stands alone; that one is passed over, written into the gap ledger and asked for less often.
Where it refuses them all, nobody is passed over: then something else is wrong, and one after the
other is asked for until it is mended.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from forwarder.core.contracts import Lost, Page, Window
from forwarder.core.masking import mask_request_body
from forwarder.core.schema import RAW_BYTES_KEY
from forwarder.core.source_contract import Parts, Purpose
from forwarder.core.telemetry import Emit, ignore
from forwarder.core.timing import Clock
from forwarder.sources.cloudflare_access.account import AccountConfig, ScimUpdatesConfig, parameters
from forwarder.sources.cloudflare_access.answers import SCIM_UPDATES, Answer, RequestRefusedError
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.logs import PageMaker, request_parameters, urgency
from forwarder.sources.cloudflare_access.providers import (
    ProviderList,
    RefusedIds,
    ScimPosition,
    current_list,
    halved,
    moved,
)
from forwarder.sources.cloudflare_access.rate_limit import Priority
from forwarder.sources.cloudflare_access.walk import Advance, advance, first_step

STREAM = "scim_updates"
REFUSED = "identity_provider_refused"


class ScimUpdates:
    """Reads ``scim_updates`` of one account; implements ``core.contracts.Source``."""

    def __init__(
        self,
        api: Api,
        account: AccountConfig,
        config: ScimUpdatesConfig,
        clock: Clock,
        emit: Emit = ignore,
        *,
        advance: Advance = advance,
    ) -> None:
        """Do no I/O."""
        self._api = api
        self._advance = advance
        self._account = account
        self._config = config
        self._clock = clock
        self._emit = emit
        self._refusals = RefusedIds()
        self._polled: frozenset[str] = frozenset()
        self._remembers = False
        self._query = parameters(STREAM, config.query)
        self._pages = PageMaker(account.account_id, STREAM, "logged_at", _masked)

    async def fetch(
        self,
        window: Window,
        position: Any | None,
        *,
        parts: Sequence[str] = (),
        purpose: Purpose = Purpose.LIVE,
    ) -> Page:
        """Read one page of the walk through ``window`` for the first chunk of ids.

        Raises ``RequestRefusedError``, too, when every identity provider is refused.
        """
        place, lost = self._place(window, position, parts)
        while place.chunks:
            try:
                answer = await self._ask(place, window, purpose)
            except RequestRefusedError as error:
                if error.about != "parameters":
                    raise
                place, refused = halved(place, window)
                self._refusals = self._refusals.refused(refused, self._clock.now_us())
                if self._none_is_accepted():
                    raise
                lost = [*lost, *_refused(refused, window)]
            else:
                return self._read(place, window, answer, lost)
        return self._pages.page(Answer([], None, None), [], None, lost)

    def _read(
        self, place: ScimPosition, window: Window, answer: Answer, lost: Sequence[Lost]
    ) -> Page:
        self._refusals = self._refusals.accepted(place.chunks[0])
        records = self._pages.records(answer.rows, answer.text)
        view = self._pages.seen(records, self._config.page_size, answer.per_page)
        step, unreadable = self._advance(place.step, window, view)
        following = moved(place, window, step)
        return self._pages.page(
            answer,
            records,
            following and following.to_json(),
            [*lost, unreadable] if unreadable else lost,
            following.reached_us if following else None,
        )

    async def parts(self, memory: Any | None, now_us: int) -> Parts:
        """Return the identity providers to read, asking Cloudflare for them when that is due."""
        if memory is not None and not self._remembers:
            self._refusals = RefusedIds.from_json(memory.get("refusals"))
        self._remembers = True
        roster = await current_list(
            self._api,
            self._config,
            ProviderList.from_json(memory) if memory is not None else ProviderList(),
            now_us,
            account=self._account.label,
            emit=self._emit,
        )
        polled = roster.polled(now_us)
        ids = tuple(member.id for member in polled)
        anybody = any(member.vanished_us is None for member in polled)
        self._polled = frozenset(ids) if anybody else frozenset()
        refusals = self._refusals.among(ids).to_json()
        return Parts(ids, {**roster.to_json(), "refusals": refusals})

    async def server_time_us(self) -> int:
        """Return Cloudflare's clock in microseconds since 1970."""
        return await self._api.server_time_us()

    async def _ask(self, place: ScimPosition, window: Window, purpose: Purpose) -> Answer:
        ids = [("idp_id", id_) for id_ in place.chunks[0]]
        walk = request_parameters(place.step, window, self._config.page_size)
        return await self._api.get(
            SCIM_UPDATES,
            [*walk, *ids, *self._query],
            priority=Priority(purpose),
            urgency=urgency(place.step, self._account),
        )

    def _place(
        self, window: Window, position: Any | None, parts: Sequence[str]
    ) -> tuple[ScimPosition, list[Lost]]:
        """Return where a window stands, and at its beginning the ids that are not asked for."""
        place = ScimPosition.from_json(position, window)
        if place is not None:
            return place, []
        now_us = self._clock.now_us()
        refresh = 0.0 if self._none_is_accepted() else self._config.refresh
        chunks, passed_over = self._refusals.plan(parts, now_us, refresh)
        return ScimPosition(chunks, first_step(window)), _refused(passed_over, window)

    def _none_is_accepted(self) -> bool:
        """Say whether every provider is refused, and not only such that are gone anyway."""
        return bool(self._polled) and self._refusals.cover(self._polled)


def _refused(ids: Iterable[str], window: Window) -> list[Lost]:
    since_us, until_us = window.since_us, window.until_us
    text = "Cloudflare refuses identity provider"
    return [Lost(REFUSED, since_us, until_us, None, f"{text} {id_}") for id_ in ids]


def _masked(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the row without password-like values: in its body, and in its bytes if kept raw."""
    changes: dict[str, Any] = {}
    body, raw = row.get("request_body"), row.get(RAW_BYTES_KEY)
    if body is not None:
        text = body if isinstance(body, str) else orjson.dumps(body).decode()
        masked = mask_request_body(text)
        if masked != text:
            changes["request_body"] = masked
    if isinstance(raw, str):
        masked_raw = _masked_bytes(raw)
        if masked_raw != raw:
            changes[RAW_BYTES_KEY] = masked_raw
    return {**row, **changes} if changes else row


def _masked_bytes(raw: str) -> str:
    """Return base64 of a row without its secrets; a row of Cloudflare's own may hold anything."""
    try:
        text = b64decode(raw).decode(errors="replace")
    except ValueError:
        return mask_request_body(raw)
    masked = mask_request_body(text)
    return raw if masked == text else b64encode(masked.encode()).decode()
