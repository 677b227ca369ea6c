"""Events on standard output, one a line; what the kernel has taken is delivered.

A pipe whose reader stalls blocks only a thread, and that thread can be told to stop: it asks the
kernel for room before each write and never writes more than a pipe takes at once.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import stat
import threading
from typing import ClassVar

from forwarder.core.contracts import ACCEPTED, Batch, BatchLimits, SinkContext, WriteResult
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.transport.settings import PluginSettings

_POLL_MS = 50
_MAX_WAIT = 0.02
"""Seconds: a write to a pipe is too cheap to make a line wait for others."""


class StdoutConfig(PluginSettings):
    """It has no settings of its own."""


class StdoutSink:
    """Writes each batch with one loop of writes to one file descriptor."""

    Config: ClassVar[type[StdoutConfig]] = StdoutConfig
    default_format: ClassVar[str] = "ocsf"
    summary: ClassVar[str] = "one event a line on standard output"

    def __init__(self, config: StdoutConfig, context: SinkContext, *, fd: int = 1) -> None:
        """Write to ``fd``; tests give another one than 1."""
        del config, context
        self._lines = _LineWriter(fd)

    @property
    def limits(self) -> BatchLimits:
        """Return one batch at a time, so that lines stay in order."""
        return BatchLimits(max_in_flight=1, max_wait=_MAX_WAIT)

    async def open(self) -> None:
        """Raise ``NeedsOperatorError`` when nobody reads the pipe any more."""
        self._lines.check()

    async def write(self, batch: Batch) -> WriteResult:
        """Return when the kernel has taken every byte of the batch."""
        lines = b"".join([part for event in batch.events for part in (event.body, b"\n")])
        stop = threading.Event()
        try:
            await asyncio.to_thread(self._lines.write, lines, stop)
        finally:
            stop.set()
        return ACCEPTED

    async def aclose(self) -> None:
        """Leave the descriptor open: it belongs to the process."""


class _LineWriter:
    """Writes whole lines to a descriptor, from one thread at a time."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._rest = b""

    def check(self) -> None:
        """Ask the kernel whether the other end is still there."""
        try:
            os.fstat(self._fd)
        except OSError as error:
            raise _fault(error) from error
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if any(state & (select.POLLERR | select.POLLNVAL) for _, state in poll.poll(0)):
            raise _fault(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))

    def write(self, lines: bytes, stop: threading.Event) -> None:
        """Write ``lines``, or as much as fits before ``stop`` is set.

        A line that was cut by a stop or an error is completed before anything else is written,
        so that a reader never sees half a line joined to another one.
        """
        with self._lock:
            data = memoryview(self._rest + lines)
            done = 0
            try:
                done = self._pump(data, stop)
            except _Cut as cut:
                done = cut.done
                raise _fault(cut.error) from cut.error
            finally:
                self._rest = _unfinished_line(data, done) if done else self._rest

    def _pump(self, data: memoryview, stop: threading.Event) -> int:
        done, step = 0, self._step(len(data))
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while done < len(data) and not stop.is_set():
            try:
                if poll.poll(_POLL_MS):
                    done += os.write(self._fd, data[done : done + step])
            except OSError as error:
                raise _Cut(done, error) from error
        return done

    def _step(self, size: int) -> int:
        """Return all bytes for a file, which never blocks for long, else one pipe buffer."""
        try:
            return size if stat.S_ISREG(os.fstat(self._fd).st_mode) else select.PIPE_BUF
        except OSError:
            return select.PIPE_BUF


class _Cut(Exception):  # noqa: N818 - it says where the writing was cut, it is not shown to anybody
    def __init__(self, done: int, error: OSError) -> None:
        super().__init__()
        self.done = done
        self.error = error


def _unfinished_line(data: memoryview, done: int) -> bytes:
    """Return what is missing of the line that the first ``done`` bytes (at least one) end in."""
    if data[done - 1] == ord("\n"):
        return b""
    rest = bytes(data[done:])
    return rest[: rest.index(b"\n") + 1]


def _fault(error: OSError) -> TransientError:
    reason = error.strerror or type(error).__name__
    if error.errno in (errno.EPIPE, errno.EBADF):
        return NeedsOperatorError(
            f"standard output is closed: {reason}",
            hint="whatever read it has ended; start forwarder again with a reader, or remove the "
            "stdout sink",
        )
    return TransientError(f"standard output does not take more: {reason}")
