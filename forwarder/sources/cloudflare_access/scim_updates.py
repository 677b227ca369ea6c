"""The provisioning log: what identity providers changed, read for a list of their ids.

A position holds the ids that its window is read for, in chunks; each chunk is walked through the
whole window before the next. A chunk that Cloudflare refuses is halved until the refused id
stands alone; that one is passed over and written into the gap ledger.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from forwarder.core.clock import Clock
from forwarder.core.happenings import Report, ignore
from forwarder.core.masking import mask_request_body
from forwarder.core.model import Lost, Page, Window
from forwarder.core.schema import RAW_BYTES_KEY
from forwarder.core.source_contract import Parts, Purpose
from forwarder.sources.cloudflare_access.access_requests import request_parameters, urgency
from forwarder.sources.cloudflare_access.account import AccountConfig, ScimUpdatesConfig
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.envelope import Answer
from forwarder.sources.cloudflare_access.faults import SCIM_UPDATES, RequestRefusedError
from forwarder.sources.cloudflare_access.filters import parameters
from forwarder.sources.cloudflare_access.identity_providers import current_roster
from forwarder.sources.cloudflare_access.ledger import Priority
from forwarder.sources.cloudflare_access.pages import PageMaker, seen
from forwarder.sources.cloudflare_access.roster import Roster
from forwarder.sources.cloudflare_access.steps import Step
from forwarder.sources.cloudflare_access.walk import Advance, advance, first_step

STREAM = "scim_updates"
REFUSED = "identity_provider_refused"
_IDS_A_REQUEST = 20
"""A request names at most so many providers: 20 ids of 36 characters keep the URL short."""

Chunks = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a window stands: chunks of ids still to be read, and the walk through the first."""

    chunks: Chunks
    step: Step

    @property
    def reached_us(self) -> int | None:
        """Return how far all ids have been read: nothing is known before the last chunk."""
        return self.step.since_us if len(self.chunks) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Return what a position keeps."""
        return {"chunks": self.chunks, "step": self.step.to_json()}

    @classmethod
    def from_json(cls, kept: Any, window: Window, parts: Sequence[str]) -> Place:
        """Return the place of a position; without a readable one, the start for ``parts``."""
        try:
            chunks = tuple(tuple(str(id_) for id_ in chunk) for chunk in kept["chunks"])
            return cls(chunks, Step.from_json(kept["step"]) or first_step(window))
        except (TypeError, KeyError):
            return cls(chunked(parts), first_step(window))


def chunked(ids: Sequence[str]) -> Chunks:
    """Return the ids in groups that fit into one request."""
    size = _IDS_A_REQUEST
    return tuple(tuple(ids[start : start + size]) for start in range(0, len(ids), size))


def moved(place: Place, window: Window, step: Step | None) -> Place | None:
    """Return the place after an answer: on in this chunk, in the next, or None at the end."""
    if step is not None:
        return Place(place.chunks, step)
    rest = place.chunks[1:]
    return Place(rest, first_step(window)) if rest else None


def halved(place: Place, window: Window) -> tuple[Place | None, tuple[str, ...]]:
    """Return the place after a refusal, and the ids that are passed over (one at the most)."""
    chunk, rest = place.chunks[0], place.chunks[1:]
    if len(chunk) <= 1:
        return (Place(rest, first_step(window)) if rest else None), chunk
    middle = len(chunk) // 2
    return Place((chunk[:middle], chunk[middle:], *rest), first_step(window)), ()


class ScimUpdates:
    """Reads ``scim_updates`` of one account; implements ``core.contracts.Source``."""

    def __init__(
        self,
        api: Api,
        account: AccountConfig,
        config: ScimUpdatesConfig,
        clock: Clock,
        report: Report = ignore,
        *,
        advance: Advance = advance,
    ) -> None:
        """Do no I/O."""
        self._api = api
        self._advance = advance
        self._account = account
        self._config = config
        self._clock = clock
        self._report = report
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
        """Read one page of the walk through ``window`` for the first chunk of ids."""
        place = Place.from_json(position, window, parts)
        if not place.chunks:
            return self._pages.page(Answer([], None, None), [], None)
        try:
            answer = await self._ask(place, window, purpose)
        except RequestRefusedError as error:
            if error.about != "parameters":
                raise
            return self._pass_over(place, window)
        records = self._pages.records(answer.rows, answer.text)
        view = seen(records, self._config.page_size, answer.per_page)
        step, lost = self._advance(place.step, window, view)
        following = moved(place, window, step)
        return self._pages.page(
            answer,
            records,
            following and following.to_json(),
            [lost] if lost else (),
            following.reached_us if following else None,
        )

    async def parts(self, memory: Any | None) -> Parts:
        """Return the identity providers to read, asking Cloudflare for them when that is due."""
        now_us = self._clock.now_us()
        roster = await current_roster(
            self._api,
            self._config,
            Roster.from_json(memory) if memory is not None else Roster(),
            now_us,
            account=self._account.label,
            report=self._report,
        )
        return Parts(tuple(member.id for member in roster.polled(now_us)), roster.to_json())

    async def server_time_us(self) -> int:
        """Return Cloudflare's clock in microseconds since 1970."""
        return await self._api.server_time_us()

    async def _ask(self, place: Place, window: Window, purpose: Purpose) -> Answer:
        ids = [("idp_id", id_) for id_ in place.chunks[0]]
        walk = request_parameters(place.step, window, self._config.page_size)
        return await self._api.get(
            SCIM_UPDATES,
            [*walk, *ids, *self._query],
            priority=Priority(purpose),
            urgency=urgency(place.step, self._account),
        )

    def _pass_over(self, place: Place, window: Window) -> Page:
        following, refused = halved(place, window)
        lost = [
            Lost(
                REFUSED,
                window.since_us,
                window.until_us,
                None,
                f"Cloudflare refuses identity provider {id_}",
            )
            for id_ in refused
        ]
        position = following and following.to_json()
        return self._pages.page(Answer([], None, None), [], position, lost)


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
