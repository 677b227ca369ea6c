"""Appending whole batches to a file so that a crash or a full disk leaves no half line behind.

Blocking code: the sink runs it in a thread.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_TAIL = 65_536


@dataclass(frozen=True, slots=True)
class Calls:
    """The two system calls that a disk can fail; tests give others."""

    write: Callable[[int, bytes | memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync


class Appender:
    """One open file. All methods raise ``OSError``."""

    def __init__(self, path: Path, calls: Calls) -> None:
        """Open or create ``path``, take it for this process, and cut off half a last line.

        What is cut off was never acknowledged, so it will be written again.
        """
        self._path = path
        self._calls = calls
        existed = path.exists()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(self._fd)
            self.size = self._whole_lines(found.st_size)
            self.since_us = found.st_mtime_ns // 1000 if self.size else None
            if self.size < found.st_size:
                os.ftruncate(self._fd, self.size)
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
            os.ftruncate(self._fd, self.size)
            raise
        self.size += sum(map(len, parts))

    def is_still_there(self) -> bool:
        """Say whether the path still names this file: somebody may have moved or removed it."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        own = os.fstat(self._fd)
        return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)

    def close(self) -> None:
        """Give the file up."""
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


def sync_folder(folder: Path) -> None:
    """Make names in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
