"""Syslog over UDP, TCP and TLS, in RFC 5424 or RFC 3164.

Over TCP and TLS a batch counts as delivered when the receiver's kernel has acknowledged its last
byte; the protocol has nothing better. What the receiver's program had not read when a connection
broke is sent again from a window in memory, so a receiver that dies costs duplicates, not events,
within that window. UDP is best effort.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from forwarder.core.contracts import ACCEPTED, Batch, BatchLimits, Finding, SinkContext, WriteResult
from forwarder.core.errors import TransientError
from forwarder.core.telemetry import WARNING, PluginEvent, SentUnconfirmed, event
from forwarder.core.timing import Backoff
from forwarder.transport.settings import Duration, Size, TlsSettings
from forwarder.transport.stream import Route, Stream
from forwarder.transport.syslog import (
    SyslogLines,
    SyslogSettings,
    lf_terminated,
    octet_counted,
    within,
)
from forwarder.transport.tls import Tls


@event("window_resent", WARNING, limited=True)
class WindowResent(PluginEvent):
    """A connection broke, and ``events`` that might not have been read were sent again."""

    sink: str
    receiver: str
    events: int


_CEF_LINE = {"rfc": "3164", "app_name": "", "framing": "lf"}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    # IBM: LEEF after a header of RFC 3164, TLS listener on 6514; lines, since that is what its
    # plain listeners read.
    "qradar": {"transport": "tls", "port": 6514, "format": "leef", **_CEF_LINE},
    # CEF standard: "MMM dd HH:mm:ss host CEF:..." with nothing between host and CEF.
    "arcsight": {"transport": "tcp", "port": 514, "format": "cef", **_CEF_LINE},
    # SC4S listens with octet counting on 601 and tells CEF by its own columns.
    "sc4s": {"transport": "tcp", "port": 601, "framing": "octet_counting", "format": "cef"},
    # The agent's rsyslog or syslog-ng listens on 514 and passes what holds "CEF:" on as CEF.
    "sentinel": {"transport": "tcp", "port": 514, "format": "cef", **_CEF_LINE},
    # imtcp detects octet counting by itself and cuts at maxMessageSize, 8096 bytes of text.
    "rsyslog": {"transport": "tcp", "port": 514, "framing": "octet_counting", "format": "ocsf"},
    # syslog() reads octet counting on 601; log-msg-size is 65536, beyond it the connection ends.
    "syslog_ng": {
        "transport": "tcp",
        "port": 601,
        "framing": "octet_counting",
        "max_message_bytes": 65_536,
        "format": "ocsf",
    },
}
_CLOSING = 2.0
_DATAGRAMS_AT_ONCE = 100
# Including the first: with an idle time-out of 20 s more would not fit into resend_age either.
_MOST_TIMES = 4
_LARGEST_DATAGRAM = 65_507
_UDP_BYTES = 2048
_DEFAULT_PORTS = {"udp": 514, "tcp": 514, "tls": 6514}


class SyslogConfig(SyslogSettings):
    """Where to send messages, how they are framed, and what is kept in case they are lost."""

    preset: Literal["qradar", "arcsight", "sc4s", "sentinel", "rsyslog", "syslog_ng"] | None = (
        Field(None, description="defaults that fit a receiver; every key can still be set")
    )
    transport: Literal["udp", "tcp", "tls"] = Field("tls", description="how messages travel")
    framing: Literal["octet_counting", "lf"] = Field(
        "octet_counting", description="how messages are separated on tcp and tls"
    )
    tls: TlsSettings = Field(TlsSettings(), description="used when transport is tls")
    resend_window: Size = Field(
        4 * 2**20,
        description="bytes kept and sent again when a connection breaks, since the receiver's "
        "program may not have read them; 0: none",
    )
    resend_age: Duration = Field(
        60.0, description="older messages are not sent again; none is sent more than four times"
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, given: Any) -> Any:
        """Fill in the values of the preset, and of UDP, where nothing is given."""
        if not isinstance(given, dict):
            return given
        preset = dict(PRESETS.get(str(given.get("preset")), {}))
        preset.pop("format", None)
        values = preset | given
        # RFC 5426: receivers must take 480 bytes, should take 2,048; a fragment that is lost on the
        # way loses the whole datagram.
        if values.get("transport") == "udp":
            values.setdefault("max_message_bytes", _UDP_BYTES)
        return values

    @property
    def default_port(self) -> int:
        """Return the registered or customary port of the transport."""
        return _DEFAULT_PORTS[self.transport]


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
        self._frame: Callable[[list[bytes]], list[bytes]]
        self._carrier: StreamCarrier | DatagramCarrier
        if self._udp:
            self._most = min(self._most, _LARGEST_DATAGRAM)
            # A datagram is its own frame.
            self._frame, self._carrier = list, DatagramCarrier(config, context)
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
        """Half-close and give the receiver two seconds to read to the end."""
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


def _weaknesses(config: SyslogConfig) -> list[Finding]:
    findings = []
    if config.transport == "udp":
        findings.append(
            Finding(
                "warning",
                "transport",
                "UDP is best effort: nothing confirms that a message arrived",
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


class StreamCarrier:
    """One TCP or TLS connection at a time.

    What was acknowledged shortly before a connection broke may never have been read. It is owed:
    it goes out first on the next connection, which is opened at once for that.
    """

    def __init__(self, config: SyslogConfig, context: SinkContext) -> None:
        """Connect to nothing yet."""
        where = f"sink {context.name}"
        tls = Tls(config.tls, where, context.emit) if config.transport == "tls" else None
        self._route = _route(config, tls)
        self._window = ResendWindow(config.resend_window, config.resend_age)
        self._context = context
        self._stream: Stream | None = None
        self._owed: list[Owed] = []
        self._connecting = asyncio.Lock()
        self._resending: asyncio.Task[None] | None = None
        self._rng = SystemRandom()

    async def open(self) -> None:
        """Connect, unless there is a connection on which nothing is outstanding."""
        # The engine opens after a write failed. Bytes that are still outstanding mean that the
        # receiver has stopped reading, and the next write would wait behind them.
        if self._stream is not None and self._stream.outstanding():
            self._stream.abort()
            self._part()
        await self._connected()

    async def send(self, frames: Sequence[bytes]) -> None:
        """Return when the receiver's kernel has acknowledged every byte."""
        stream = await self._connected()
        stream.write(b"".join(frames))
        await stream.settled()
        self._window.add(frames, self._context.clock.monotonic())

    async def aclose(self) -> None:
        """Let the receiver read to the end; send the messages it did not read once more."""
        if self._resending is not None:
            self._resending.cancel()
            await asyncio.wait([self._resending])
            self._resending = None
        try:
            async with asyncio.timeout(2 * _CLOSING):
                await self._finish()
                if self._owed:
                    await (await self._connected()).settled()
                    await self._finish()
        except (TransientError, TimeoutError):
            pass  # nobody is there to take it; what is owed was acknowledged to the engine before
        finally:
            if self._stream is not None:
                self._stream.abort()
                self._stream = None

    async def _finish(self) -> None:
        stream = self._stream
        if stream is not None and not stream.lost and not await stream.finish(_CLOSING):
            self._part()
        self._stream = None

    async def _connected(self) -> Stream:
        async with self._connecting:
            if self._stream is None or self._stream.lost:
                self._stream = stream = await self._route.connect(on_lost=self._on_lost)
                self._settle_debt(stream)
            return self._stream

    def _settle_debt(self, stream: Stream) -> None:
        if not self._owed:
            return
        owed, self._owed = self._owed, []
        frames = [frame for sent, _ in owed for frame in sent.frames]
        stream.write(b"".join(frames))
        self._window.put_back(owed, self._context.clock.monotonic())
        self._context.emit(WindowResent(self._context.name, str(stream.endpoint), len(frames)))

    def _part(self) -> None:
        """Owe the messages that the receiver of the ended connection may not have read."""
        self._owed += self._window.take(self._context.clock.monotonic())

    def _on_lost(self, error: TransientError) -> None:
        del error  # whoever waits for the connection raises it
        self._part()
        self._route.advance()  # the receiver that just went away is tried last
        if self._owed and (self._resending is None or self._resending.done()):
            name = f"{self._context.name}: send again what may not have been read"
            self._resending = asyncio.get_running_loop().create_task(self._resend(), name=name)

    async def _resend(self) -> None:
        """Reconnect for the messages that are owed, even when there is nothing new to send."""
        backoff, attempt = Backoff(), 0
        while self._owed:
            attempt += 1
            await self._context.clock.sleep(backoff.delay(attempt, self._rng))
            with contextlib.suppress(TransientError):
                await (await self._connected()).settled()


class DatagramCarrier(asyncio.DatagramProtocol):
    """One message a datagram. That the receiver is away is noticed only now and then."""

    def __init__(self, config: SyslogConfig, context: SinkContext) -> None:
        """Open no socket yet."""
        self._route = _route(config, None)
        self._context = context
        self._transport: asyncio.DatagramTransport | None = None
        self._error: Exception | None = None

    def error_received(self, exc: Exception) -> None:
        """Remember that the other side's kernel refused a datagram; the next send raises it."""
        self._error = exc

    async def open(self) -> None:
        """Resolve the name and make a socket; nobody answers, so this proves nothing more."""
        self._drop()
        endpoint = self._route.endpoint()
        loop = asyncio.get_running_loop()
        try:
            transport: Any
            transport, _ = await loop.create_datagram_endpoint(
                lambda: self, remote_addr=(endpoint.host, endpoint.port)
            )
        except OSError as error:
            raise TransientError(f"no UDP socket for {endpoint}: {error.strerror}") from error
        self._transport = transport

    async def send(self, frames: Sequence[bytes]) -> None:
        """Return when all datagrams have left; best effort."""
        if self._transport is None:
            await self.open()
        transport = self._transport
        for frame in frames:
            if transport is not None:
                transport.sendto(frame)
        await asyncio.sleep(0)  # the loop reports a refusal of the kernel only at its next turn
        if self._error is not None:
            error, self._error = self._error, None
            self._route.advance()
            self._drop()
            raise TransientError(f"a datagram was refused: {error}") from error
        self._context.emit(SentUnconfirmed(self._context.name, len(frames)))

    async def aclose(self) -> None:
        """Close the socket."""
        self._drop()

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None


def _route(config: SyslogConfig, tls: Tls | None) -> Route:
    addresses = config.addresses(config.default_port)
    return Route(addresses, tls, config.connect_timeout, config.user_timeout)


@dataclass(frozen=True, slots=True)
class Sent:
    """Messages of one write: ``at`` is when they were acknowledged, ``times`` how often sent."""

    frames: Sequence[bytes]
    size: int
    at: float
    times: int = 1


Owed: TypeAlias = tuple[Sent, float]
"""Messages to send again, and their age in seconds."""


class ResendWindow:
    """The youngest messages up to ``most`` bytes and ``age`` seconds; pure, time is given.

    A receiver's kernel acknowledges what its program may never read: when that program dies, the
    content of its socket buffer is gone. So the window should be at least as large as such a
    buffer. It is taken when a connection breaks and goes out first on the next one.
    """

    def __init__(self, most: int, age: float) -> None:
        """Keep nothing yet; with ``most`` 0 never anything."""
        self._most = most
        self._age = age
        self._sent: deque[Sent] = deque()
        self._size = 0

    def add(self, frames: Sequence[bytes], now: float) -> None:
        """Remember framed messages that were acknowledged at the monotonic second ``now``."""
        if frames:
            self._keep(Sent(*_tail(frames, self._most), now))

    def take(self, now: float) -> list[Owed]:
        """Remove everything; return what is young enough, in the order it was sent."""
        # Behind a balancer that closes idle connections nothing was lost, and each close would
        # send an event once more: its age counts from the first time, and the number is bounded.
        youngest = [
            (sent, now - sent.at)
            for sent in self._sent
            if now - sent.at <= self._age and sent.times < _MOST_TIMES
        ]
        self._sent.clear()
        self._size = 0
        return youngest

    def put_back(self, taken: Sequence[Owed], now: float) -> None:
        """Remember messages of ``take`` that were sent again; the outage between does not age them.

        Their age grows only while they are on a connection, where somebody could have read them.
        """
        for sent, age in taken:
            self._keep(replace(sent, at=now - age, times=sent.times + 1))

    def _keep(self, sent: Sent) -> None:
        if not self._most:
            return
        self._sent.append(sent)
        self._size += sent.size
        while self._size - self._sent[0].size >= self._most:
            self._size -= self._sent.popleft().size


def _tail(frames: Sequence[bytes], most: int) -> tuple[Sequence[bytes], int]:
    """Return the last frames with at least ``most`` bytes together, or all, and their size."""
    whole, size = sum(map(len, frames)), 0
    if whole <= most:
        return frames, whole
    for index in range(len(frames) - 1, -1, -1):
        size += len(frames[index])
        if size >= most:
            return frames[index:], size
    return frames, size
