"""A file of lines, with rotation.

Batches that are written at the same time share one ``fsync``. A crash or a full disk leaves no half
line behind. Everything that touches the disk runs in a thread.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gzip
import os
import re
import shutil
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from socket import gethostname
from typing import Any, BinaryIO, ClassVar, TypeAlias

from pydantic import Field

from forwarder.core.contracts import ACCEPTED, Batch, BatchLimits, Finding, SinkContext, WriteResult
from forwarder.core.errors import ConfigError, Fault, NeedsOperatorError, TransientError
from forwarder.core.timing import Clock, format_us
from forwarder.transport.settings import Duration, NamedPath, PluginSettings, Size

# ISA-L takes a tenth of zlib's time for about a sixth more bytes.
if find_spec("isal"):
    from isal import igzip

    _GzipFile: type[gzip.GzipFile] = igzip.IGzipFile
    _LEVEL = 2
else:
    _GzipFile = gzip.GzipFile
    _LEVEL = 6

_REPLICA = "{replica}"
_ONE_FILE = "replicas share the journal, and would share the file {path}"
_ONE_FILE_HINT = "put {replica} into the path, which becomes the name of the host"
_CLOSING = 2.0
# Bytes that share one fsync: enough to pay for it, few enough that nobody waits for long.
_LARGEST_WRITE = 8 * 2**20
_TAIL = 65_536
_STAMP = r"\d{8}T\d{6}\.\d{6}Z"
_GIVE = "give it to the user that runs the forwarder"
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
# Lines, and the future that becomes done when they are on the disk.
_Waiting: TypeAlias = tuple[bytes, asyncio.Future[None]]


class FileConfig(PluginSettings):
    """Which file, and when it gives way to a new one."""

    path: NamedPath = Field(
        description="the file that is written; its folder must exist; `{replica}` becomes the name "
        "of the host, which replicas with a common journal need"
    )
    max_size: Size = Field(
        100 * 2**20, description="size from which a new file is begun; 0 never", ge=0
    )
    max_age: Duration = Field(
        86_400.0, description="age from which a new file is begun; 0 never", ge=0
    )
    compress: bool = Field(True, description="gzip files that are no longer written")
    keep: int | None = Field(
        None, description="how many older files to keep; all of them if unset", ge=1
    )

    def exclusive(self) -> Mapping[str, Any]:
        """Return the file: of two sinks that write it, one would be held."""
        return {"path": self.path}


class FileSink:
    """Appends lines to a file; an event is delivered when it is on the disk."""

    Config: ClassVar[type[FileConfig]] = FileConfig
    default_format: ClassVar[str] = "raw"
    summary: ClassVar[str] = "a file of lines, with rotation"

    def __init__(
        self, config: FileConfig, context: SinkContext, *, calls: Calls | None = None
    ) -> None:
        """Touch nothing yet; tests give other system ``calls``.

        Raises ``ConfigError`` if replicas share the journal and would share the file.
        """
        if context.replica and _REPLICA not in str(config.path):
            raise ConfigError([Fault("path", _ONE_FILE.format(path=config.path), _ONE_FILE_HINT)])
        path = Path(str(config.path).replace(_REPLICA, context.replica or gethostname()))
        self._path = path
        config = config.model_copy(update={"path": path})
        self._file = RotatingFile(config, context.clock, calls or Calls())
        self._queue: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None
        self._tidying: asyncio.Task[None] | None = None
        self._tidy_now = True  # a crash may have left older files uncompressed
        self._notes: tuple[str, ...] = ()

    @property
    def limits(self) -> BatchLimits:
        """Return several batches at once, so that they can share an fsync."""
        return BatchLimits()

    async def open(self) -> None:
        """Check that the file can be written; cuts off half a line that a crash left."""
        try:
            await asyncio.to_thread(self._file.check)
        except OSError as error:
            raise self._fault(error) from error

    async def diagnose(self) -> Sequence[Finding]:
        """Check whether the file can be written, also beside a running forwarder."""
        return [await asyncio.to_thread(diagnose, self._path)]

    async def write(self, batch: Batch) -> WriteResult:
        """Return when the batch is on the disk."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((batch.lines(), done))
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
        # A disk that hangs, such as a lost network share, must not delay the end of the process.
        for task in hanging:
            task.cancel()
        if not hanging:
            await asyncio.to_thread(self._file.close)

    async def _drain(self) -> None:
        """Write everything that waits, in groups that share one fsync, until nothing waits."""
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
        """Take the batches that wait and were not cancelled, up to a few megabytes."""
        group: list[_Waiting] = []
        size = 0
        while self._queue and size < _LARGEST_WRITE:
            lines, done = self._queue.pop(0)
            if not done.done():
                group.append((lines, done))
                size += len(lines)
        return group

    def _tidy(self, *, rotated: bool) -> None:
        """Compress and remove older files in the background, after a start and each rotation."""
        self._tidy_now = self._tidy_now or rotated
        if self._tidy_now and (self._tidying is None or self._tidying.done()):
            self._tidy_now = False
            self._tidying = asyncio.create_task(self._tidy_files(), name="file rotation")

    async def _tidy_files(self) -> None:
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
    """End the wait of every batch of ``group``: success, or ``error``."""
    for _, done in group:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


def diagnose(path: Path) -> Finding:
    """Check the file, or its folder while there is no file; nothing is created or changed."""
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


@dataclass(frozen=True, slots=True)
class Calls:
    """The two system calls that a disk can fail; tests give others."""

    write: Callable[[int, bytes | memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync


class RotatingFile:
    """The current file and the older ones beside it. Blocking; all methods raise ``OSError``."""

    def __init__(self, config: FileConfig, clock: Clock, calls: Calls) -> None:
        """Touch nothing yet."""
        self._config = config
        self._clock = clock
        self._calls = calls
        self._lock = threading.Lock()
        self._file: Appender | None = None
        self._since_us = 0

    def check(self) -> None:
        """Check that the file can be written, without creating it."""
        with self._lock:
            if self._config.path.exists():
                self._current()
            else:
                _check_folder(self._config.path.parent)

    def append(self, parts: Sequence[bytes]) -> bool:
        """Append ``parts`` durably; return True when an older file now waits for ``tidy``."""
        with self._lock:
            rotated = self._rotate_if_due()
            try:
                self._current().append(parts)
            except OSError:
                self._close()
                raise
            return rotated

    def close(self) -> None:
        """Close the current file; idempotent."""
        with self._lock:
            self._close()

    def tidy(self) -> None:
        """Compress older files, and remove those that are too many.

        The remains of an interrupted compression are removed first; the uncompressed file goes
        only when the compressed one is durable.
        """
        path, folder = self._config.path, self._config.path.parent
        for name in older_files(path, _names(folder), suffix=".gz.part"):
            (folder / name).unlink(missing_ok=True)
        if self._config.compress:
            for name in older_files(path, _names(folder)):
                _compress(folder / name)
        names = _names(folder)
        older = sorted([*older_files(path, names), *older_files(path, names, suffix=".gz")])
        for name in to_remove(older, self._config.keep):
            (folder / name).unlink(missing_ok=True)

    def _current(self) -> Appender:
        """Return the open file; opens it, also after somebody has moved the old one away."""
        if self._file is not None and not self._file.is_still_there():
            self._close()
        if self._file is None:
            self._file = Appender(self._config.path, self._calls)
            self._since_us = self._file.since_us or self._clock.now_us()
        return self._file

    def _rotate_if_due(self) -> bool:
        if self._file is None and not self._config.path.exists():
            return False
        if not self._due(self._current().size):
            return False
        path = self._config.path
        path.rename(path.with_name(older_name(path, self._clock.now_us())))
        sync_folder(path.parent)
        self._close()
        return True

    def _due(self, size: int) -> bool:
        if size == 0:
            return False
        age = (self._clock.now_us() - self._since_us) / 1_000_000
        too_large = 0 < self._config.max_size <= size
        return too_large or 0 < self._config.max_age <= age

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def _check_folder(folder: Path) -> None:
    """Check that files can be created in ``folder``."""
    if not stat.S_ISDIR(folder.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _compress(path: Path) -> None:
    """Replace ``path`` durably by ``path``.gz."""
    part, whole = path.with_name(f"{path.name}.gz.part"), path.with_name(f"{path.name}.gz")
    try:
        with path.open("rb") as source, part.open("wb") as raw:
            os.fchmod(raw.fileno(), 0o600)
            compress_file(source, raw)
            raw.flush()
            os.fsync(raw.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise
    part.rename(whole)
    sync_folder(path.parent)
    path.unlink()


class Appender:
    """One open file, to which whole batches are appended. All methods raise ``OSError``."""

    def __init__(self, path: Path, calls: Calls) -> None:
        """Open or create ``path``, lock it for this process, and cut off half a last line."""
        self._path = path
        self._calls = calls
        existed = path.exists()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # Two writers would cut off each other's half lines; the second one is held instead.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(self._fd)
            self.size = self._whole_lines(found.st_size)
            self.since_us = found.st_mtime_ns // 1000 if self.size else None
            # Half a line is left by a crash. It was never acknowledged, so it is written again.
            if self.size < found.st_size:
                os.ftruncate(self._fd, self.size)
            # Without this a power cut may forget the name of a new file whose content is durable.
            if not existed:
                sync_folder(path.parent)
        except OSError:
            os.close(self._fd)
            raise

    def append(self, parts: Sequence[bytes]) -> None:
        """Write ``parts`` one after another and make them durable, or leave the file as it was."""
        try:
            for part in parts:
                rest = memoryview(part)
                while rest:
                    rest = rest[self._calls.write(self._fd, rest) :]
            self._calls.fsync(self._fd)
        except OSError:
            # A part of the batch may be there, on a full disk half a line. All of it comes again.
            os.ftruncate(self._fd, self.size)
            raise
        self.size += sum(map(len, parts))

    def is_still_there(self) -> bool:
        """Return False if somebody has moved or removed the file under its path."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        own = os.fstat(self._fd)
        return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)

    def close(self) -> None:
        """Close the file, which unlocks it."""
        os.close(self._fd)

    def _whole_lines(self, size: int) -> int:
        """Return how many bytes from the start are whole lines."""
        end = size
        while end > 0:
            start = max(0, end - _TAIL)
            found = os.pread(self._fd, end - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
        return 0


def compress_file(source: BinaryIO, target: BinaryIO) -> None:
    """Write the rest of ``source`` into ``target`` as one gzip member without a name; blocking."""
    with _GzipFile(filename="", fileobj=target, mode="wb", compresslevel=_LEVEL) as packed:
        shutil.copyfileobj(source, packed, 2**20)


def sync_folder(folder: Path) -> None:
    """Make names in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def older_name(path: Path, now_us: int) -> str:
    """Return the name for a file that was written until ``now_us``.

    ``access.ndjson`` becomes ``access-20260101T000000.000000Z.ndjson``; names sort by time.
    """
    stamp = format_us(now_us).replace("-", "").replace(":", "")
    return f"{path.stem}-{stamp}{path.suffix}"


def older_files(path: Path, names: Iterable[str], *, suffix: str = "") -> Sequence[str]:
    """Return those of ``names`` that ``path`` had before, oldest first.

    With ``suffix`` only those with it at the end (``.gz``, ``.gz.part``), without it only whole
    uncompressed files.
    """
    ours = re.compile(f"{re.escape(path.stem)}-{_STAMP}{re.escape(path.suffix)}{re.escape(suffix)}")
    return sorted(name for name in names if ours.fullmatch(name))


def to_remove(older: Sequence[str], keep: int | None) -> Sequence[str]:
    """Return the files beyond the newest ``keep`` ones; ``older`` is sorted, oldest first."""
    return () if keep is None or len(older) <= keep else older[: len(older) - keep]
