"""RELP: syslog whose receiver answers for every message.

An event counts as delivered when its own ``200 OK`` is there. Batches that are written at once
share one connection and its window.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from forwarder.core.contracts import ACCEPTED, Batch, BatchLimits, Finding, SinkContext, WriteResult
from forwarder.core.errors import TransientError
from forwarder.sinks.relp.session import Session
from forwarder.transport.settings import TlsSettings
from forwarder.transport.syslog import Route, SyslogLines, SyslogSettings, within

_DEFAULT_PORT = 2514
_CLOSING = 2.0


class RelpConfig(SyslogSettings):
    """A RELP receiver such as rsyslog's imrelp."""

    tls: TlsSettings | None = Field(None, description="protect the connection; {} is enough")
    window: int = Field(
        128, ge=1, le=100_000, description="messages that may be unanswered at once"
    )


class RelpSink:
    """Sends each event as one syslog message inside RELP."""

    Config: ClassVar[type[RelpConfig]] = RelpConfig
    default_format: ClassVar[str] = "ocsf"
    summary: ClassVar[str] = "syslog with acknowledgements over RELP (rsyslog)"

    def __init__(self, config: RelpConfig, context: SinkContext) -> None:
        """Prepare; no I/O."""
        del context
        self._config = config
        self._lines = SyslogLines(config.header())
        self._route = Route(config, _DEFAULT_PORT, config.tls)
        self._session: Session | None = None
        self._connecting = asyncio.Lock()

    @property
    def limits(self) -> BatchLimits:
        """Return the usual limits; batches in flight share the window."""
        return BatchLimits()

    async def open(self) -> None:
        """Connect and agree on the protocol, unless a session is there that owes no answer."""
        if self._session is not None and not self._session.idle:
            self._session.lost(TransientError("the RELP session stopped answering"))
        await self._connected()

    async def write(self, batch: Batch) -> WriteResult:
        """Return when every message was answered; what is not accepted is deferred."""
        cut = self._config.oversize == "truncate"
        lines, too_long = within(
            batch.events, self._lines.lines(batch.events), self._config.max_message_bytes, cut=cut
        )
        if not lines:
            return WriteResult(rejected=too_long)
        session = await self._connected()
        refused = await session.deliver(lines)
        if not refused and not too_long:
            return ACCEPTED
        skipped = {rejection.offset for rejection in too_long}
        offsets = [event.offset for event in batch.events if event.offset not in skipped]
        return WriteResult(
            rejected=too_long,
            deferred=frozenset(offsets[index] for index, _ in refused),
            notes=[f"relp_refused: {text}" for _, text in refused[:1]],
        )

    async def aclose(self) -> None:
        """Close the session, within two seconds."""
        if self._session is not None:
            await self._session.finish(_CLOSING)
            self._session = None

    async def diagnose(self) -> Sequence[Finding]:
        """Open a session and close it again; no message is sent."""
        findings = []
        if self._config.tls is None:
            findings.append(Finding("warning", "tls", "events travel unprotected", "set tls: {}"))
        try:
            await self.open()
        except TransientError as error:
            return [*findings, Finding("fault", "connection", str(error), error.hint)]
        return [*findings, Finding("ok", "connection", "the receiver takes syslog over RELP")]

    async def _connected(self) -> Session:
        async with self._connecting:
            if self._session is None or not self._session.alive:
                self._session = await self._start()
            return self._session

    async def _start(self) -> Session:
        session = Session(self._config.window)
        stream = await self._route.connect(session.heard, session.lost)
        try:
            async with asyncio.timeout(self._config.connect_timeout):
                await session.start(stream)
        except TimeoutError as error:
            raise TransientError(f"{stream.endpoint} does not answer the RELP open") from error
        finally:
            if not session.alive:
                self._route.advance()
                stream.abort()
        return session
