"""Daemons in trouble, each a process of its own with settings of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from forwarder.testing.network import free_port

FORWARDER = Path(sys.executable).with_name("forwarder")


@dataclass
class Daemon:
    """``forwarder run`` with settings; its admin server listens on ``port``."""

    folder: Path
    settings: dict[str, Any]
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def file(self) -> Path:
        """Return the settings file."""
        return self.folder / "config.yaml"

    def start(self) -> None:
        """Start, without waiting."""
        self.folder.mkdir(parents=True)
        own = {
            "version": 1,
            "state_dir": str(self.folder / "state"),
            "admin": {"listen": f"127.0.0.1:{self.port}"},
        }
        self.file.touch(mode=0o600)
        self.file.write_text(yaml.safe_dump(own | self.settings))
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [FORWARDER, "run", "-c", self.file], stdout=log, stderr=log
            )

    def reload(self, text: str) -> None:
        """Replace the settings file and ask for it to be read."""
        self.file.write_text(text)
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """Stop in order and return the exit status; idempotent."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.terminate()
        try:
            return process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
