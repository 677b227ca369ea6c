"""The provisioning log: what identity providers changed, read for a list of their ids.

A window is read in chunks of ids (``providers.ScimPosition``). A chunk that Cloudflare refuses is
halved until the refused id stands alone. That one is skipped, written into the gap ledger and
queried less often. Where Cloudflare refuses them all, none is skipped: then something else is
wrong, and one after the other is queried until a person has fixed it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import orjson

from forwarder.core.contracts import Lost, Page, Window
from forwarder.core.masking import mask_error, mask_request_body
from forwarder.core.schema import RAW_BYTES_KEY
from forwarder.core.source_contract import Parts, Purpose
from forwarder.core.telemetry import Emit, ignore
from forwarder.core.timing import Clock
from forwarder.sources.cloudflare_access.account import AccountConfig, ScimUpdatesConfig
from forwarder.sources.cloudflare_access.answers import SCIM_UPDATES, Answer, RequestRefusedError
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.logs import LogReader, PageMaker, Walked
from forwarder.sources.cloudflare_access.scim.providers import (
    ProviderList,
    RefusedIds,
    ScimPosition,
    current_list,
    halved,
    moved,
)
from forwarder.sources.cloudflare_access.walk import Advance, advance, first_step

REFUSED = "identity_provider_refused"


class ScimUpdates:
    """The provisioning log of one account; implements ``core.source_contract.Source``."""

    stream: ClassVar[str] = SCIM_UPDATES.name

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
        self._account = account
        self._config = config
        self._clock = clock
        self._emit = emit
        self._refused = RefusedIds()
        self._polled: frozenset[str] = frozenset()
        self._remembers = False
        self._pages = PageMaker(account.account_id, self.stream, "logged_at", mask_row)
        self._reader = LogReader(api, account, SCIM_UPDATES, config, self._pages, advance)

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
            ids = [("idp_id", id_) for id_ in place.chunks[0]]
            try:
                walked = await self._reader.walk(place.step, window, purpose, ids)
            except RequestRefusedError as error:
                # Any other refusal is about the token or the account: halving would only repeat it.
                if error.about != "parameters":
                    raise
                place, refused = halved(place, window)
                self._refused = self._refused.refused(refused, self._clock.now_us())
                if self._none_is_accepted():
                    raise
                lost = [*lost, *_refused(refused, window)]
            else:
                return self._page(place, window, walked, lost)
        return self._pages.page(Answer([], None, None), [], None, lost)

    def _page(
        self, place: ScimPosition, window: Window, walked: Walked, lost: Sequence[Lost]
    ) -> Page:
        self._refused = self._refused.accepted(place.chunks[0])
        following = moved(place, window, walked.step)
        return self._pages.page(
            walked.answer,
            walked.records,
            following and following.to_json(),
            [*lost, *walked.lost],
            following.reached_us if following else None,
        )

    async def parts(self, memory: Any | None, now_us: int) -> Parts:
        """Return the identity providers to read; lists them at Cloudflare when that is due."""
        known = ProviderList() if memory is None else ProviderList.from_json(memory)
        if memory is not None and not self._remembers:
            self._refused = RefusedIds.from_json(memory.get("refusals"))
            # The list may be older than the downtime before this start.
            known = known.unchecked()
        self._remembers = True
        known = await current_list(
            self._api,
            self._config,
            known,
            now_us,
            account=self._account.label,
            emit=self._emit,
        )
        polled = known.polled(now_us)
        ids = tuple(member.id for member in polled)
        # Providers that are gone anyway may be refused; they say nothing about the others.
        anybody = any(member.vanished_us is None for member in polled)
        self._polled = frozenset(ids) if anybody else frozenset()
        return Parts(ids, {**known.to_json(), "refusals": self._refused.among(ids).to_json()})

    async def server_time_us(self) -> int:
        """Return Cloudflare's clock in microseconds since 1970."""
        return await self._api.server_time_us()

    def _place(
        self, window: Window, position: Any | None, parts: Sequence[str]
    ) -> tuple[ScimPosition, list[Lost]]:
        """Return where a window stands, and at its beginning the ids that are skipped."""
        place = ScimPosition.from_json(position, window)
        if place is not None:
            return place, []
        refresh = 0.0 if self._none_is_accepted() else self._config.refresh
        chunks, skipped = self._refused.plan(parts, self._clock.now_us(), refresh)
        return ScimPosition(chunks, first_step(window)), _refused(skipped, window)

    def _none_is_accepted(self) -> bool:
        """Return True if every provider is refused that is still there."""
        return bool(self._polled) and self._refused.cover(self._polled)


def _refused(ids: Iterable[str], window: Window) -> list[Lost]:
    since_us, until_us = window.since_us, window.until_us
    text = "Cloudflare refuses identity provider"
    return [Lost(REFUSED, since_us, until_us, None, f"{text} {id_}") for id_ in ids]


def mask_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the row without password-like values in body, error, and bytes if kept raw."""
    changes: dict[str, Any] = {}
    error = row.get("error_description")
    if error and error != (masked_error := mask_error(error)):
        changes["error_description"] = masked_error
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
    """Return base64 of a malformed row without its secrets; its text may be anything."""
    try:
        text = b64decode(raw).decode(errors="replace")
    except ValueError:
        return mask_request_body(raw)
    masked = mask_request_body(text)
    return raw if masked == text else b64encode(masked.encode()).decode()
