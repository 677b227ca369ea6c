"""RELP: syslog whose receiver answers for every message.

A RELP session: frames, transactions, answers.

RELP frames: ``TXNR COMMAND DATALEN [DATA] LF``. Pure.

The rules are those of librelp's protocol description. Transaction numbers run from 1 to 999,999,999
and must rise by exactly one: rsyslog ends the session at a gap or a repeat.

One RELP session: messages go out as the window allows and are settled by their answers.

RELP: syslog whose receiver answers for every message.

An event counts as delivered when its own ``200 OK`` is there. Batches that are written at once
share one connection and its window.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import ClassVar, NamedTuple

from pydantic import Field

from forwarder.core.contracts import ACCEPTED, Batch, BatchLimits, Finding, SinkContext, WriteResult
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.transport.settings import TlsSettings
from forwarder.transport.stream import Stream
from forwarder.transport.syslog import Route, SyslogLines, SyslogSettings, within

_LAST_TXNR = 999_999_999
_HEAD = re.compile(rb"(\d{1,9}) ([A-Za-z]{1,32}) (\d{1,9})([ \n])")
_LONGEST_HEAD = 9 + 1 + 32 + 1 + 9 + 1
_LONGEST_DATA = 128 * 1024
_LONGEST_NUMBER = 9
_PLAIN = b"200 OK"
_PLAIN_END = b" rsp %d %b\n" % (len(_PLAIN), _PLAIN)


class MalformedError(Exception):
    """What the other side sent is no RELP."""


class Frame(NamedTuple):
    """What the other side sent; ``command`` is ``rsp`` or ``serverclose``."""

    txnr: int
    command: bytes
    data: bytes

    @property
    def accepted(self) -> bool:
        """Return whether it is an answer that starts with 200."""
        return self.data.startswith(b"200")

    @property
    def text(self) -> str:
        """Return the first line of the answer, for messages."""
        return self.data.split(b"\n", 1)[0][:200].decode(errors="replace")


def encode(txnr: int, command: bytes, data: bytes = b"") -> bytes:
    """Return one frame."""
    if not data:
        return b"%d %b 0\n" % (txnr, command)
    return b"%b%b\n" % (head(txnr, command, len(data)), data)


def head(txnr: int, command: bytes, size: int) -> bytes:
    """Return what stands before ``size`` bytes of data, at least one; a line feed follows them."""
    return b"%d %b %d " % (txnr, command, size)


def following(txnr: int) -> int:
    """Return the transaction number after ``txnr``; 1 follows the last one."""
    return txnr + 1 if txnr < _LAST_TXNR else 1


class Reader:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        """Start between two frames."""
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that ``data`` completes; raises ``MalformedError``."""
        frames, data = _plain(self._rest + data)
        position = 0
        while (found := _HEAD.match(data, position)) is not None:
            length = int(found[3])
            start = found.end() if found[4] == b" " else found.end() - 1
            end = start + length
            if length > _LONGEST_DATA or (found[4] == b"\n" and length):
                raise MalformedError("a frame's length makes no sense")
            if end >= len(data):
                break
            if data[end] != ord("\n"):
                raise MalformedError("a frame does not end with a line feed")
            frames.append(Frame(int(found[1]), found[2], data[start:end]))
            position = end + 1
        self._rest = data[position:]
        if found is None and len(self._rest) > _LONGEST_HEAD:
            raise MalformedError("a frame's head cannot be read")
        return frames


def _plain(data: bytes) -> tuple[list[Frame], bytes]:
    """Cut off the frames at the front if all but the last, unfinished one are plain consent.

    That is what nearly all answers are: cutting them by what is alike saves a step for each.
    """
    front, _, rest = data.rpartition(_PLAIN_END)
    numbers = front.split(_PLAIN_END)
    lengths = set(map(len, numbers))
    if 0 in lengths or max(lengths) > _LONGEST_NUMBER or not b"".join(numbers).isdigit():
        return [], data
    answers = zip(map(int, numbers), repeat(b"rsp"), repeat(_PLAIN), strict=False)
    return list(map(tuple.__new__, repeat(Frame), answers)), rest


_OFFER = b"relp_version=0\nrelp_software=forwarder\ncommands=syslog"
_OPEN_TXNR = 1


@dataclass(slots=True, eq=False)
class _Delivery:
    """One batch on its way; ``refused`` holds the index and the answer of what was not taken."""

    messages: Sequence[bytes]
    done: asyncio.Future[None]
    sent: int = 0
    left: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)


class Session:
    """Numbers messages, keeps at most ``window`` of them unanswered, matches the answers."""

    def __init__(self, window: int) -> None:
        """Wait for ``start``; ``heard`` and ``lost`` are for the connection to call."""
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
        """Return whether messages can be delivered."""
        return self._agreed and self._failure is None

    @property
    def idle(self) -> bool:
        """Return whether every message was answered."""
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

        Raises ``TransientError`` when the connection is lost first. When cancelled, what has not
        been sent yet is not sent.
        """
        if not self.alive:
            raise self._loss()
        done = asyncio.get_running_loop().create_future()
        delivery = _Delivery(messages, done, left=len(messages))
        self._outbox.append(delivery)
        try:
            self._pump()
            await done
        finally:
            if delivery in self._outbox:
                self._outbox.remove(delivery)
        return delivery.refused

    def _pump(self) -> None:
        """Send what fits into the window, with one write."""
        room, parts = self._window - len(self._unanswered), list[bytes]()
        while room and self._outbox:
            delivery = self._outbox[0]
            end = min(delivery.sent + room, len(delivery.messages))
            room -= end - delivery.sent
            for index in range(delivery.sent, end):
                self._txnr = txnr = following(self._txnr)
                self._unanswered[txnr] = (delivery, index)
                message = delivery.messages[index]
                parts += (head(txnr, b"syslog", len(message)), message, b"\n")
            delivery.sent = end
            if end == len(delivery.messages):
                self._outbox.popleft()
        if parts and self._stream is not None:
            self._stream.write(b"".join(parts))

    def heard(self, data: bytes) -> None:
        """Settle what the answers in ``data`` speak of, and refill the window."""
        try:
            self._settle(self._reader.feed(data))
        except MalformedError as error:
            self.lost(TransientError(f"{self._name()} breaks the RELP protocol: {error}"))
            return
        if self._outbox:
            self._pump()
        elif self._unanswered and self._stream is not None:
            self._stream.acknowledge_now()

    def _settle(self, frames: Sequence[Frame]) -> None:
        """Match answers with their messages, here in one go since there are so many."""
        unanswered = self._unanswered
        for frame in frames:
            if frame.command == b"serverclose" or frame.txnr not in unanswered:
                self._note(frame)
                continue
            delivery, index = unanswered.pop(frame.txnr)
            if not frame.accepted:
                delivery.refused.append((index, frame.text))
            delivery.left -= 1
            if not delivery.left and not delivery.done.done():
                delivery.done.set_result(None)

    def _note(self, frame: Frame) -> None:
        """Take what answers no message; raises ``MalformedError`` for what makes no sense."""
        if frame.command == b"serverclose":
            self.lost(TransientError(f"{self._name()} closed the RELP session"))
        elif self._opening is not None and not self._opening.done():
            self._opening.set_result(frame)
        elif not self._closed.is_set() and frame.data:
            raise MalformedError(f"an answer to message {frame.txnr}, which was never sent")

    def lost(self, error: TransientError) -> None:
        """Fail everything that is unanswered; the engine delivers it again."""
        if self._failure is None:
            self._failure = error
        waiting = [delivery.done for delivery, _ in self._unanswered.values()]
        waiting += [delivery.done for delivery in self._outbox]
        self._unanswered.clear()
        self._outbox.clear()
        if self._opening is not None and not self._opening.done():
            self._opening.set_exception(self._loss())
        for done in waiting:
            if not done.done():
                done.set_exception(self._loss())
        self._closed.set()
        if self._stream is not None:
            self._stream.abort()

    async def finish(self, grace: float) -> None:
        """Close the session politely if nothing is unanswered, and the connection anyway."""
        stream = self._stream
        if stream is not None and self.alive and self.idle:
            stream.write(encode(following(self._txnr), b"close"))
            with contextlib.suppress(TimeoutError):  # everything was answered before
                await asyncio.wait_for(self._closed.wait(), grace)
        self.lost(TransientError("the RELP session was ended here"))

    def _loss(self) -> TransientError:
        """Return the failure as a new error, since each is raised once."""
        failure = self._failure or TransientError("the RELP session is not open")
        return type(failure)(str(failure), hint=failure.hint)

    def _name(self) -> str:
        return str(self._stream.endpoint) if self._stream is not None else "the receiver"


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
