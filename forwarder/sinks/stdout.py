"""Events on standard output, one a line; an event is delivered when the kernel has taken it.

A pipe whose reader stalls blocks only a thread, and that thread can be stopped: it polls for room
before each write and never writes more than a pipe takes at once.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import stat
import threading
from collections import defaultdict
from typing import ClassVar

from forwarder.core.contracts import ACCEPTED, Batch, BatchLimits, SinkContext, WriteResult
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.transport.settings import PluginSettings

_POLL_MS = 50
# Seconds. A write to a pipe is so cheap that a line need not wait for others.
_MAX_WAIT = 0.02
_LOCKS: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
"""By descriptor: the sinks of several shards write to one."""


class StdoutConfig(PluginSettings):
    """This sink has no settings of its own."""


class StdoutSink:
    """Writes each batch to one file descriptor."""

    Config: ClassVar[type[StdoutConfig]] = StdoutConfig
    default_format: ClassVar[str] = "ocsf"
    summary: ClassVar[str] = "one event a line on standard output"

    def __init__(self, config: StdoutConfig, context: SinkContext, *, fd: int = 1) -> None:
        """Write to ``fd``, which is 1 outside of tests."""
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
        stop = threading.Event()
        try:
            await asyncio.to_thread(self._lines.write, batch.lines(), stop)
        finally:
            # A cancelled write must not leave a thread behind that writes when the reader is back.
            stop.set()
        return ACCEPTED

    async def aclose(self) -> None:
        """Do nothing: the descriptor belongs to the process."""


class _LineWriter:
    """Writes whole lines to a descriptor, from one thread at a time."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = _LOCKS[fd]
        self._rest = b""

    def check(self) -> None:
        """Raise if the other end is closed."""
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

        A line that was cut by a stop or an error is completed before the next line, so that a
        reader never sees half a line joined to another line.
        """
        with self._lock:
            data, done = memoryview(self._rest + lines), 0
            step = self._step(len(data))
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            try:
                while done < len(data) and not stop.is_set():
                    if poll.poll(_POLL_MS):
                        done += os.write(self._fd, data[done : done + step])
            except OSError as error:
                raise _fault(error) from error
            finally:
                self._rest = _unfinished_line(data, done) if done else self._rest

    def _step(self, size: int) -> int:
        """Return how many bytes one write may have."""
        try:
            # A file never blocks for long. A pipe that polls as writable has room for PIPE_BUF.
            return size if stat.S_ISREG(os.fstat(self._fd).st_mode) else select.PIPE_BUF
        except OSError:
            return select.PIPE_BUF


def _unfinished_line(data: memoryview, done: int) -> bytes:
    """Return the rest of the line in which the first ``done`` bytes (at least one) end."""
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
