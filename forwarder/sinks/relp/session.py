"""One RELP session: messages go out as the window allows and are settled by their answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.relp.frames import (
    Frame,
    MalformedError,
    Reader,
    encode,
    following,
    head,
)
from forwarder.transport.stream import Stream

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
