"""Syslog over UDP, TCP and TLS, in RFC 5424 or RFC 3164.

Over TCP and TLS a batch counts as delivered when the receiver's kernel has acknowledged its last
byte; the protocol knows nothing better. What the receiver's program had not read when a connection
broke is sent again from a window in memory, so a receiver that dies costs duplicates, not events,
within that window. UDP is best effort.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from forwarder.core.contracts import ACCEPTED, Batch, BatchLimits, Finding, SinkContext, WriteResult
from forwarder.core.errors import TransientError
from forwarder.sinks.syslog.carriers import (
    PRESETS,
    Carrier,
    DatagramCarrier,
    StreamCarrier,
    SyslogConfig,
)
from forwarder.transport.syslog import SyslogLines, lf_terminated, octet_counted, within

_LARGEST_DATAGRAM = 65_507
_DATAGRAMS_AT_ONCE = 100


class SyslogSink:
    """Sends each event as one message."""

    Config: ClassVar[type[SyslogConfig]] = SyslogConfig
    default_format: ClassVar[str] = "cef"
    summary: ClassVar[str] = "syslog over TLS, TCP or UDP (RFC 5424 and 3164)"

    def __init__(self, config: SyslogConfig, context: SinkContext) -> None:
        """Prepare; no I/O."""
        self._config = config
        self._udp = config.transport == "udp"
        self._most = config.max_message_bytes
        self._frame: Callable[[Sequence[bytes]], Sequence[bytes]] = octet_counted
        self._carrier: Carrier
        if self._udp:
            self._most = min(self._most, _LARGEST_DATAGRAM)
            self._frame, self._carrier = _unframed, DatagramCarrier(config, context)
        else:
            self._frame = lf_terminated if config.framing == "lf" else octet_counted
            self._carrier = StreamCarrier(config, context)
        self._lines = SyslogLines(config.header())

    @classmethod
    def format_for(cls, settings: Mapping[str, Any]) -> str:
        """Return the format that the preset in unchecked ``settings`` wants, or the default."""
        preset = PRESETS.get(str(settings.get("preset")), {})
        return str(preset.get("format", cls.default_format))

    @property
    def limits(self) -> BatchLimits:
        """Return small batches for UDP, whose receivers have small buffers."""
        if self._udp:
            return BatchLimits(max_events=_DATAGRAMS_AT_ONCE, max_in_flight=1)
        return BatchLimits()

    async def open(self) -> None:
        """Connect to the first receiver that answers."""
        await self._carrier.open()

    async def write(self, batch: Batch) -> WriteResult:
        """Return when the receiver's kernel has the batch (UDP: when it has left)."""
        events = batch.events
        cut = self._config.oversize == "truncate"
        lines, refused = within(events, self._lines.lines(events), self._most, cut=cut)
        if lines:
            await self._carrier.send(self._frame(lines))
        return WriteResult(rejected=refused) if refused else ACCEPTED

    async def aclose(self) -> None:
        """Half-close and let the receiver read to the end, for two seconds at most."""
        await self._carrier.aclose()

    async def diagnose(self) -> Sequence[Finding]:
        """Connect, send nothing, and name what weakens delivery."""
        findings = [*_weaknesses(self._config)]
        try:
            await self._carrier.open()
        except TransientError as error:
            return [*findings, Finding("fault", "connection", str(error), error.hint)]
        if not self._udp:
            findings.append(Finding("ok", "connection", "the receiver accepts connections"))
        return findings


def _unframed(lines: Sequence[bytes]) -> Sequence[bytes]:
    """Return the messages as they are: a datagram is its own frame."""
    return lines


def _weaknesses(config: SyslogConfig) -> list[Finding]:
    findings = []
    if config.transport == "udp":
        findings.append(
            Finding(
                "warning",
                "transport",
                "UDP is best effort: nobody says whether a message arrived",
                "use tls or tcp, or a relp sink, if no event may be lost",
            )
        )
    if config.transport == "tcp":
        findings.append(
            Finding("warning", "transport", "events travel unprotected", "use transport: tls")
        )
    if config.transport == "tls" and not config.tls.verify:
        findings.append(
            Finding("warning", "tls.verify", "anybody can pose as the receiver", "set tls.ca_file")
        )
    return findings
