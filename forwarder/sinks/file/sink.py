"""Appends lines to a file.

The settings of the file sink.

``check --live`` for a file: can this user write it, and does somebody else already.

The file sink: batches that come together share one fsync.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, TypeAlias

from forwarder.core.contracts import ACCEPTED, Batch, BatchLimits, Finding, SinkContext, WriteResult
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.file.rotation import Calls, FileConfig, RotatingFile

_GIVE = "give it to the user that runs the forwarder"


def diagnose(path: Path) -> Finding:
    """Look at the file, or at its folder while there is no file; nothing is made or changed."""
    subject = str(path)
    try:
        for text, hint in _wrong(path):
            return Finding("fault", subject, text, hint)
        if not path.exists():
            return Finding("ok", subject, "is not there yet and can be made")
        taken = "is being written by a process, most likely the forwarder"
        return Finding("ok", subject, taken if _is_locked(path) else "can be written")
    except OSError as error:
        return Finding("fault", subject, error.strerror or type(error).__name__, "check the path")


def _wrong(path: Path) -> Iterator[tuple[str, str]]:
    """Yield what is wrong, the cause first, each with what to do."""
    folder = path.parent
    if path.is_dir():
        yield "is a folder", "path must name a file"
    if not folder.is_dir():
        yield f"there is no folder {folder}", "make the folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        yield f"this user may not write to {folder}", _GIVE
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        yield "this user may not read and write it", _GIVE
    if path.exists() and not path.is_file():
        yield "is no regular file", "choose another path"


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


_CLOSING = 2.0
_LARGEST_WRITE = 8 * 2**20
_OPERATOR = {
    errno.EACCES: "let this user write the file and its folder",
    errno.EPERM: "let this user write the file and its folder",
    errno.EROFS: "the file system is mounted read-only",
    errno.ENOENT: "make the folder",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "path must name a file, and names a folder",
    errno.EWOULDBLOCK: "another process writes this file; give each its own",
    errno.ELOOP: "check the path",
    errno.ENAMETOOLONG: "check the path",
}
_Waiting: TypeAlias = tuple[bytes, asyncio.Future[None]]
"""Lines, and what becomes done when they are on the disk."""


class FileSink:
    """Appends lines to a file; what is on the disk is delivered."""

    Config: ClassVar[type[FileConfig]] = FileConfig
    default_format: ClassVar[str] = "raw"
    summary: ClassVar[str] = "a file of lines, with rotation"

    def __init__(
        self, config: FileConfig, context: SinkContext, *, calls: Calls | None = None
    ) -> None:
        """Touch nothing yet; tests give other system ``calls``."""
        self._path = config.path
        self._file = RotatingFile(config, context.clock, calls or Calls())
        self._queue: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None
        self._tidying: asyncio.Task[None] | None = None
        self._tidy_now = True
        self._notes: tuple[str, ...] = ()

    @property
    def limits(self) -> BatchLimits:
        """Return several batches at once, so that they can share an fsync."""
        return BatchLimits()

    async def open(self) -> None:
        """See that the file can be written; mends a last line that a crash cut."""
        try:
            await asyncio.to_thread(self._file.check)
        except OSError as error:
            raise self._fault(error) from error

    async def diagnose(self) -> Sequence[Finding]:
        """Look whether the file can be written, beside a running forwarder too."""
        return [await asyncio.to_thread(diagnose, self._path)]

    async def write(self, batch: Batch) -> WriteResult:
        """Return when the batch is on the disk."""
        lines = b"".join([part for event in batch.events for part in (event.body, b"\n")])
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((lines, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._drain(), name=f"file {self._path.name}")
        await done
        notes, self._notes = self._notes, ()
        return WriteResult(notes=notes) if notes else ACCEPTED

    async def aclose(self) -> None:
        """Finish what the disk is doing, for a few seconds at most, and close the file."""
        _settle(self._queue, TransientError(f"{self._path} was closed before this was written"))
        self._queue.clear()
        tasks = {task for task in (self._writer, self._tidying) if task and not task.done()}
        hanging: set[asyncio.Task[None]] = set()
        if tasks:
            _, hanging = await asyncio.wait(tasks, timeout=_CLOSING)
        for task in hanging:
            task.cancel()
        if not hanging:
            await asyncio.to_thread(self._file.close)

    async def _drain(self) -> None:
        """Write everything that waits, together, until nothing waits."""
        while self._queue:
            group = self._take()
            if not group:
                continue
            try:
                lines = [lines for lines, _ in group]
                rotated = await asyncio.to_thread(self._file.append, lines)
            except OSError as error:
                _settle(group, self._fault(error))
            else:
                _settle(group, None)
                self._tidy(rotated=rotated)

    def _take(self) -> list[_Waiting]:
        """Take what waits and was not cancelled, up to a few megabytes."""
        group: list[_Waiting] = []
        size = 0
        while self._queue and size < _LARGEST_WRITE:
            lines, done = self._queue.pop(0)
            if not done.done():
                group.append((lines, done))
                size += len(lines)
        return group

    def _tidy(self, *, rotated: bool) -> None:
        """Put older files away in the background, after a start and after each rotation."""
        self._tidy_now = self._tidy_now or rotated
        if self._tidy_now and (self._tidying is None or self._tidying.done()):
            self._tidy_now = False
            self._tidying = asyncio.create_task(self._put_away(), name="file rotation")

    async def _put_away(self) -> None:
        try:
            await asyncio.to_thread(self._file.tidy)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self._notes = (f"older_files: {reason} while compressing or removing them",)

    def _fault(self, error: OSError) -> TransientError:
        said = f"{self._path} cannot be written: {error.strerror or type(error).__name__}"
        hint = _OPERATOR.get(error.errno or 0)
        if hint is not None:
            return NeedsOperatorError(said, hint=hint)
        return TransientError(said, hint="see whether the disk is full or broken")


def _settle(group: Sequence[_Waiting], error: TransientError | None) -> None:
    """Tell everybody who still waits."""
    for _, done in group:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
