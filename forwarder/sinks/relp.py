"""RELP: syslog whose receiver answers for every message.

An event counts as delivered when its own ``200 OK`` has arrived. Batches that are written at once
share one connection and its window.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

from pydantic import Field

from forwarder.core.contracts import ACCEPTED, Batch, BatchLimits, Finding, SinkContext, WriteResult
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.transport.settings import TlsSettings
from forwarder.transport.stream import Route, Stream
from forwarder.transport.syslog import SyslogLines, SyslogSettings, within
from forwarder.transport.tls import Tls

_DEFAULT_PORT = 2514
_CLOSING = 2.0
_OPEN_TXNR = 1
_LAST_TXNR = 999_999_999
_HEAD = re.compile(rb"(\d{1,9}) ([A-Za-z]{1,32}) (\d{1,9})([ \n])")
_LONGEST_HEAD = 9 + 1 + 32 + 1 + 9 + 1
_LONGEST_DATA = 128 * 1024
_OFFER = b"relp_version=0\nrelp_software=forwarder\ncommands=syslog"


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
        where = f"sink {context.name}"
        self._config = config
        self._lines = SyslogLines(config.header())
        self._route = Route(
            config.addresses(_DEFAULT_PORT),
            Tls(config.tls, where, context.emit) if config.tls is not None else None,
            config.connect_timeout,
            config.user_timeout,
        )
        self._session: Session | None = None
        self._connecting = asyncio.Lock()

    @property
    def limits(self) -> BatchLimits:
        """Return the usual limits; batches in flight share the window."""
        return BatchLimits()

    async def open(self) -> None:
        """Connect and agree on the protocol, unless there is a session that owes no answer."""
        # The engine opens when no write is in flight, so an answer that is owed will not come.
        if self._session is not None and not self._session.idle:
            self._session.lost(TransientError("the RELP session stopped answering"))
        await self._connected()

    async def write(self, batch: Batch) -> WriteResult:
        """Return when every message was answered; messages that were not accepted are deferred."""
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


class MalformedError(Exception):
    """The other side does not speak RELP."""


class Frame(NamedTuple):
    """A frame from the other side; ``command`` is ``rsp`` or ``serverclose``."""

    txnr: int
    command: bytes
    data: bytes

    @property
    def accepted(self) -> bool:
        """Return True if the answer starts with 200."""
        return self.data.startswith(b"200")

    @property
    def text(self) -> str:
        """Return the first line of the answer, for messages."""
        return self.data.split(b"\n", 1)[0][:200].decode(errors="replace")


def encode(txnr: int, command: bytes, data: bytes = b"") -> bytes:
    """Return one frame, ``TXNR COMMAND DATALEN [DATA] LF``."""
    if not data:
        return b"%d %b 0\n" % (txnr, command)
    return b"%d %b %d %b\n" % (txnr, command, len(data), data)


def following(txnr: int) -> int:
    """Return the transaction number after ``txnr``; 1 follows the last one."""
    return txnr + 1 if txnr < _LAST_TXNR else 1


class Reader:
    """Cuts received bytes into frames."""

    def __init__(self) -> None:
        """Start between two frames."""
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that ``data`` completes; raises ``MalformedError``."""
        data, frames, position = self._rest + data, list[Frame](), 0
        while (found := _HEAD.match(data, position)) is not None:
            length = int(found[3])
            # librelp ends an empty frame with a blank and a line feed, others with a line feed.
            start = found.end() if found[4] == b" " else found.end() - 1
            end = start + length
            if length > _LONGEST_DATA or (found[4] == b"\n" and length):
                raise MalformedError("the length of a frame is invalid")
            if end >= len(data):
                break
            if data[end] != ord("\n"):
                raise MalformedError("a frame does not end with a line feed")
            frames.append(Frame(int(found[1]), found[2], data[start:end]))
            position = end + 1
        self._rest = data[position:]
        if found is None and len(self._rest) > _LONGEST_HEAD:
            raise MalformedError("the head of a frame is invalid")
        return frames


class _Delivery:
    """One batch on its way through a session."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        self._messages = messages
        self._sent = 0
        self._unanswered = set(range(len(messages)))
        self.refused: list[tuple[int, str]] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def all_sent(self) -> bool:
        return self._sent == len(self._messages)

    def next(self, most: int) -> Iterator[tuple[int, bytes]]:
        """Yield index and text of the next messages to send, ``most`` of them or all."""
        begin, self._sent = self._sent, min(self._sent + most, len(self._messages))
        return ((index, self._messages[index]) for index in range(begin, self._sent))

    def answered(self, index: int, answer: Frame) -> None:
        """Note the answer to one message; the last one completes ``done``."""
        if not answer.accepted:
            self.refused.append((index, answer.text))
        self._unanswered.discard(index)
        if not self._unanswered and not self.done.done():
            self.done.set_result(None)

    def lost(self, error: TransientError) -> None:
        """End the wait: the connection broke. Raises ``error`` if nothing was answered before."""
        if self.done.done():
            return
        if len(self._unanswered) == len(self._messages):
            self.done.set_exception(error)
        else:
            # What was answered is delivered; the rest comes again and will meet the outage itself.
            self.refused += [(index, str(error)) for index in sorted(self._unanswered)]
            self.done.set_result(None)


class Session:
    """Numbers messages, keeps at most ``window`` of them unanswered, and matches the answers."""

    def __init__(self, window: int) -> None:
        """Wait for ``start``; the connection calls ``heard`` and ``lost``."""
        self._window = window
        self._stream: Stream | None = None
        self._reader = Reader()
        self._txnr = _OPEN_TXNR
        self._unanswered: dict[int, tuple[_Delivery, int]] = {}
        self._outbox: deque[_Delivery] = deque()
        self._opening: asyncio.Future[Frame] | None = None
        self._agreed = False
        self._failure: TransientError | None = None
        self._closed = asyncio.Event()

    @property
    def alive(self) -> bool:
        """Return True if messages can be delivered."""
        return self._agreed and self._failure is None

    @property
    def idle(self) -> bool:
        """Return True if every message was answered."""
        return not self._unanswered and not self._outbox

    async def start(self, stream: Stream) -> None:
        """Agree on version and commands.

        Raises ``NeedsOperatorError`` when the receiver refuses, ``TransientError`` when it ends
        the connection instead of answering.
        """
        self._stream = stream
        self._opening = asyncio.get_running_loop().create_future()
        stream.write(encode(_OPEN_TXNR, b"open", _OFFER))
        answer = await self._opening
        if not answer.accepted or b"syslog" not in answer.data:
            raise NeedsOperatorError(
                f"{stream.endpoint} does not take syslog over RELP: {answer.text}",
                hint="check that this port is a RELP listener (imrelp)",
            )
        self._agreed = True

    async def deliver(self, messages: Sequence[bytes]) -> list[tuple[int, str]]:
        """Return when each message was answered: index and text of those that were refused.

        When the connection is lost, messages without an answer count as refused; raises
        ``TransientError`` if that are all. When cancelled, the messages that have not left yet are
        not sent.
        """
        if not self.alive:
            raise self._loss()
        delivery = _Delivery(messages)
        self._outbox.append(delivery)
        try:
            self._pump()
            await delivery.done
        finally:
            # What has left cannot be taken back: its answers are still matched, and ignored.
            if delivery in self._outbox:
                self._outbox.remove(delivery)
        return delivery.refused

    def _pump(self) -> None:
        """Send as many messages as the window allows, with one write."""
        parts: list[bytes] = []
        while self._outbox and (room := self._window - len(self._unanswered)) > 0:
            delivery = self._outbox[0]
            for index, message in delivery.next(room):
                # Numbers must rise by exactly one: rsyslog ends the session at a gap or a repeat.
                self._txnr = txnr = following(self._txnr)
                self._unanswered[txnr] = (delivery, index)
                parts.append(encode(txnr, b"syslog", message))
            if delivery.all_sent:
                self._outbox.popleft()
        if parts and self._stream is not None:
            self._stream.write(b"".join(parts))

    def heard(self, data: bytes) -> None:
        """Settle the messages that ``data`` answers, and refill the window."""
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except MalformedError as error:
            self.lost(TransientError(f"{self._name()} breaks the RELP protocol: {error}"))
            return
        if self._outbox:
            self._pump()
        elif self._unanswered and self._stream is not None:
            self._stream.acknowledge_now()

    def _take(self, frame: Frame) -> None:
        """Match one frame; raises ``MalformedError`` for an answer to nothing."""
        if frame.command == b"serverclose":
            self.lost(TransientError(f"{self._name()} closed the RELP session"))
        elif frame.txnr in self._unanswered:
            delivery, index = self._unanswered.pop(frame.txnr)
            delivery.answered(index, frame)
        elif self._opening is not None and not self._opening.done():
            self._opening.set_result(frame)
        # The answer to our own close is empty, and comes when nothing is unanswered any more.
        elif not self._closed.is_set() and frame.data:
            raise MalformedError(f"an answer to message {frame.txnr}, which was never sent")

    def lost(self, error: TransientError) -> None:
        """End every wait; the engine delivers again what is unanswered."""
        if self._failure is None:
            self._failure = error
        waiting = {delivery for delivery, _ in self._unanswered.values()} | set(self._outbox)
        self._unanswered.clear()
        self._outbox.clear()
        if self._opening is not None and not self._opening.done():
            self._opening.set_exception(self._loss())
        for delivery in waiting:
            delivery.lost(self._loss())
        self._closed.set()
        if self._stream is not None:
            self._stream.abort()

    async def finish(self, grace: float) -> None:
        """Close the session politely if nothing is unanswered, and the connection anyway."""
        stream = self._stream
        if stream is not None and self.alive and self.idle:
            stream.write(encode(following(self._txnr), b"close"))
            with contextlib.suppress(TimeoutError):  # every message was answered before
                await asyncio.wait_for(self._closed.wait(), grace)
        self.lost(TransientError("the RELP session was ended here"))

    def _loss(self) -> TransientError:
        """Return the failure as a new error: one object must not be raised in several tasks."""
        failure = self._failure or TransientError("the RELP session is not open")
        return type(failure)(str(failure), hint=failure.hint)

    def _name(self) -> str:
        return str(self._stream.endpoint) if self._stream is not None else "the receiver"
