"""Microsoft Sentinel: events into tables of a workspace, by Azure's Logs Ingestion API.

A data collection rule (DCR) declares streams, one for each table. A call brings rows of one stream,
so a batch is as many calls as it has streams. Azure answers 204 to a call as a whole. What it
cannot store afterwards, it drops silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field, model_validator

from forwarder.core.contracts import (
    ACCEPTED,
    Batch,
    BatchEvent,
    BatchLimits,
    Finding,
    SinkContext,
    WriteResult,
)
from forwarder.core.errors import ConfigError, ForwarderError, NeedsOperatorError
from forwarder.transport.http import Answer, HttpSettings
from forwarder.transport.http_destination import HttpDestination
from forwarder.transport.oauth import OAuthSettings
from forwarder.transport.settings import Secret, Url

_STORED = 204
_NOT_ALLOWED, _NO_RULE = 403, 404
_HINTS = {
    _NOT_ALLOWED: "give the application the role Monitoring Metrics Publisher on the data "
    "collection rule; that takes up to 30 minutes",
    _NO_RULE: "check url, rule_id and streams against the data collection rule",
}
_HEADERS = {"Content-Type": "application/json"}
# Azure refuses a call of more than 1 MB, before and after compression; commas and brackets count.
_MOST_BYTES, _MOST_EVENTS = 950_000, 1000
# Azure cuts a longer text; only an event of this size can have one.
_LONGEST_TEXT = 64 * 1024


class SentinelConfig(HttpSettings):
    """Which data collection rule takes the events, and as which application we log in."""

    rule_id: str = Field(
        pattern=r"^dcr-[0-9a-f]+$", description="immutable id of the data collection rule"
    )
    streams: dict[str, str] = Field(
        {
            "access_requests": "Custom-CloudflareAccessLogins",
            "logpush_access_requests": "Custom-CloudflareAccessLogins",
            "non_identity_logins": "Custom-CloudflareAccessLogins",
            "scim_updates": "Custom-CloudflareAccessChanges",
            "logpush_http_requests": "Custom-CloudflareAccessRequests",
            "logpush_zero_trust_network_sessions": "Custom-CloudflareAccessSessions",
            "forwarder": "Custom-CloudflareAccessAudit",
        },
        min_length=1,
        description="stream of the rule for each log; another log goes where `forwarder` goes",
    )
    tenant_id: str = Field(pattern=r"^[A-Za-z0-9.-]+$", description="directory (tenant) in Entra")
    client_id: str = Field(min_length=1, description="application (client) id")
    client_secret: Secret | None = Field(None, description="secret of the application")
    client_assertion: Secret | None = Field(
        None, description="federated token in place of a secret (workload identity)"
    )
    authority: Url = Field(
        "https://login.microsoftonline.com", description="where Entra gives out tokens"
    )
    scope: str = Field(
        "https://monitor.azure.com/.default", description="scope of the tokens, by cloud"
    )

    @model_validator(mode="after")
    def _one_proof(self) -> SentinelConfig:
        if (self.client_secret is None) == (self.client_assertion is None):
            raise ValueError("give either client_secret or client_assertion")
        return self

    def oauth(self) -> OAuthSettings:
        """Return how Entra gives out tokens."""
        return OAuthSettings(
            token_url=f"{self.authority}/{self.tenant_id}/oauth2/v2.0/token",
            client_id=self.client_id,
            client_secret=self.client_secret,
            client_assertion=self.client_assertion,
            scope=self.scope,
            client_auth="post",
        )


class SentinelSink:
    """Sends the events of each stream as one JSON array."""

    Config: ClassVar[type[SentinelConfig]] = SentinelConfig
    default_format: ClassVar[str] = "asim"
    summary: ClassVar[str] = "Microsoft Sentinel, by the Logs Ingestion API"

    def __init__(self, config: SentinelConfig, context: SinkContext) -> None:
        """Prepare everything that needs no connection."""
        if context.media_type != "application/json":
            raise ConfigError(f"sink {context.name}: Azure takes JSON; choose a JSON format")
        self._config = config
        self._http = HttpDestination(config, context, oauth=config.oauth())

    @property
    def limits(self) -> BatchLimits:
        """Return calls that stay below Azure's 1 MB."""
        calls = len(set(self._config.streams.values()))
        return BatchLimits(
            max_events=_MOST_EVENTS,
            max_bytes=_MOST_BYTES,
            max_event_bytes=_MOST_BYTES,
            write_timeout=self._config.response_timeout * 2 * calls,
        )

    async def open(self) -> None:
        """Send nothing to each stream: that proves token, role and names."""
        await self._http.probe(self._probe)

    async def write(self, batch: Batch) -> WriteResult:
        """Return when Azure has answered for each stream; what it has not taken is deferred."""
        parts = parts_of(self._config.streams, batch.events)
        for done, (stream, events) in enumerate(parts.items()):
            try:
                await self._send(stream, events)
            except ForwarderError:
                # Alone, the rest meets the same fault again, and then the fault is the batch's.
                if not done:
                    raise
                left = [event.offset for part in list(parts.values())[done:] for event in part]
                return WriteResult(deferred=frozenset(left))
        long = sum(len(event.body) > _LONGEST_TEXT for event in batch.events)
        if long:
            note = f"texts_cut: Azure cuts texts of more than 64 KB; {long} events may have one"
            return WriteResult(notes=(note,))
        return ACCEPTED

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def diagnose(self) -> Sequence[Finding]:
        """Send nothing to every address, and say what is wrong."""
        return await self._http.diagnosis(self._probe, "the rule takes events from us")

    async def _probe(self, url: str) -> None:
        for stream in dict.fromkeys(self._config.streams.values()):
            self._check(await self._http.ask("POST", self._call(url, stream), _HEADERS, b"[]"))

    async def _send(self, stream: str, events: Sequence[BatchEvent]) -> None:
        body = b"[" + b",".join([event.body for event in events]) + b"]"
        packed = await self._http.packed(body)
        with self._http.attempt() as url:
            self._check(await self._http.send("POST", self._call(url, stream), packed, _HEADERS))

    def _call(self, url: str, stream: str) -> str:
        rule = f"{url}/dataCollectionRules/{self._config.rule_id}"
        return f"{rule}/streams/{stream}?api-version=2023-01-01"

    def _check(self, answer: Answer) -> None:
        if answer.status == _STORED:
            return
        if answer.status in _HINTS:
            said = f"{answer.where} answered {answer.status}"
            raise NeedsOperatorError(said, hint=_HINTS[answer.status])
        self._http.check(answer)
        raise NeedsOperatorError(
            f"{answer.where} answered {answer.status} instead of 204",
            hint="check that url is the ingestion endpoint of the rule",
        )


def parts_of(
    streams: Mapping[str, str], events: Sequence[BatchEvent]
) -> Mapping[str, list[BatchEvent]]:
    """Return the events by stream of the rule."""
    parts: dict[str, list[BatchEvent]] = {}
    other = streams.get("forwarder", next(iter(streams.values())))
    for event in events:
        parts.setdefault(streams.get(event.stream, other), []).append(event)
    return parts
