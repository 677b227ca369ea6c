"""A file that gives way to a new one when it is large or old. Blocking code, run in a thread."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

from forwarder.core.clock import Clock
from forwarder.sinks.file.appender import Appender, Calls, sync_folder
from forwarder.sinks.file.config import FileConfig
from forwarder.sinks.file.names import older_files, older_name, to_remove
from forwarder.transport.compression import compress_file


class RotatingFile:
    """The current file and the older ones beside it. All methods raise ``OSError``."""

    def __init__(self, config: FileConfig, clock: Clock, calls: Calls) -> None:
        """Touch nothing yet."""
        self._config = config
        self._clock = clock
        self._calls = calls
        self._lock = threading.Lock()
        self._file: Appender | None = None
        self._since_us = 0

    def check(self) -> None:
        """See that the file can be written, without making it."""
        with self._lock:
            if self._config.path.exists():
                self._current()
            else:
                _check_folder(self._config.path.parent)

    def append(self, parts: Sequence[bytes]) -> bool:
        """Append ``parts`` durably; True when an older file now waits to be put away."""
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

        An interrupted compression is begun anew; the uncompressed file goes only when the
        compressed one is durable.
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
        """Return the open file; opens it, also when somebody has moved the old one away."""
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
    """See that files can be made in ``folder``."""
    if not stat.S_ISDIR(folder.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _compress(path: Path) -> None:
    """Put ``path``.gz durably in the place of ``path``."""
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
