"""A disk that can be full, hang, and lose what was not made durable."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from forwarder.sinks.file import Calls, FileConfig, FileSink
from forwarder.testing.fake_sinks import sink_context


class Disk:
    """The folder of one file, and the system calls on it."""

    secrets: Sequence[str] = ()

    def __init__(self, folder: Path) -> None:
        self.path = folder / "access.ndjson"
        self.room: int | None = None
        self.fsyncs = 0
        self.fail_fsync = False
        self._attempts = 0
        self._free = threading.Event()
        self._free.set()

    def sink(self, **more: Any) -> FileSink:
        config = FileConfig.model_validate({"path": self.path, **more})
        return FileSink(config, sink_context(), calls=Calls(self._write, self._fsync))

    def _write(self, fd: int, data: bytes | memoryview) -> int:
        self._attempts += 1
        self._free.wait(30)
        if self.room is None:
            return os.write(fd, data)
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = os.write(fd, data[: self.room])
        self.room -= taken
        return taken

    def _fsync(self, fd: int) -> None:
        self.fsyncs += 1
        if self.fail_fsync:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(fd)

    def lines(self) -> list[bytes]:
        """Return the lines of the current file; half a line is one too."""
        return self.path.read_bytes().splitlines() if self.path.exists() else []

    def arrived(self) -> Mapping[str, int]:
        return Counter(orjson.loads(line)["id"] for line in self.lines())

    def requests(self) -> int:
        return self._attempts

    async def go_down(self) -> None:
        self.room = 0

    async def hang(self) -> None:
        self._free.clear()

    async def come_back(self) -> None:
        self.room = None
        self.fail_fsync = False
        self._free.set()
