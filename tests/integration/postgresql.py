"""A PostgreSQL server out of Debian's package, on a free loopback port, by an ordinary user."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from forwarder.testing.network import free_port
from tests.integration.debian import missing_for, unpack
from tests.integration.unavailable import Unavailable
from tests.proof.ledger import alone_in

_PATIENCE = 60.0
_SETTINGS = """
listen_addresses = '127.0.0.1'
fsync = off
shared_buffers = 32MB
max_connections = 200
log_min_messages = fatal
# Otherwise segments in /dev/shm outlive a server that is killed.
dynamic_shared_memory_type = mmap
"""
_NAME = "forwarder-tests-"
_STALE = 60.0


class Programs:
    """Where a package's programs are, and as whom they run: these servers refuse root."""

    def __init__(self, folder: Path, package: str, program: str) -> None:
        """Find them on this system, or unpack them beside it; raises ``Unavailable``.

        ``program`` is a pattern below the root of the file system, for one of them.
        """
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._environment = dict(os.environ)
        found = sorted(Path("/").glob(program))
        if not found:
            unpacked = unpack(package, missing_for(package))
            root = unpacked.root
            if self._user is not None:
                # What root has unpacked is in root's own folder, where nobody else may look.
                root = Path(shutil.copytree(unpacked.root, folder / "programs", symlinks=True))
            libraries = root / unpacked.libraries.relative_to(unpacked.root)
            self._environment["LD_LIBRARY_PATH"] = str(libraries)
            found = sorted(root.glob(program))
        if not found:
            raise Unavailable(f"Debian's {package} has no {program}")
        self._bin = found[-1].parent

    def own(self, path: Path) -> None:
        """Give a folder to the user that runs the server."""
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def start(self, name: str, *words: str | Path, log: Path) -> subprocess.Popen[bytes]:
        """Start a program."""
        user: dict[str, Any] = {}
        if self._user is not None:
            user = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        with log.open("ab") as output:
            return subprocess.Popen(
                [self._bin / name, *words],
                env=self._environment,
                stdout=output,
                stderr=output,
                cwd="/",
                **user,
            )

    def run(self, name: str, *words: str | Path, log: Path) -> None:
        """Run a program to its end; raises ``Unavailable``."""
        if self.start(name, *words, log=log).wait(_PATIENCE):
            raise Unavailable(f"{name}: {log.read_text().strip().splitlines()[-1:]}")


@contextlib.contextmanager
def memory_folder() -> Iterator[Path]:
    """Give a folder for the data of a server, in memory if the system has such folders.

    Removes the folders of tests that were killed: nobody holds their locks. A server that still
    runs in one of them ends when its files are gone.
    """
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() else Path(tempfile.gettempdir())
    _remove_abandoned(place)
    # What a killed server leaves behind may still write for a moment.
    with (
        tempfile.TemporaryDirectory(prefix=_NAME, dir=place, ignore_cleanup_errors=True) as name,
        alone_in(folder := Path(name)),
    ):
        folder.chmod(0o755)
        yield folder


def _remove_abandoned(place: Path) -> None:
    for folder in place.glob(f"{_NAME}*"):
        with contextlib.suppress(OSError):
            # A folder that was made just now may not have its lock yet.
            if time.time() - folder.stat().st_mtime > _STALE:
                with alone_in(folder, wait=False):
                    shutil.rmtree(folder, ignore_errors=True)


def dsn_at(port: int) -> str:
    """Return what leads to the database at a port, as its superuser, without a password."""
    return f"host=127.0.0.1 port={port} user=forwarder dbname=postgres"


class Postgresql:
    """One server."""

    def __init__(self, programs: Programs, folder: Path, volume: Path | None = None) -> None:
        self._programs = programs
        self.data = (volume or folder) / "data"
        self._log = folder / "log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def run(cls, tables: Path | None = None, wal: Path | None = None) -> Iterator[Postgresql]:
        """Run a fresh server; raises ``Unavailable``.

        ``tables`` and ``wal`` are volumes for its tables and for its write-ahead log, which then
        needs another MiB again and again.
        """
        with memory_folder() as folder:
            programs = Programs(folder, "postgresql", "usr/lib/postgresql/*/bin/initdb")
            for place in filter(None, (folder, tables, wal)):
                programs.own(place)
            server = cls(programs, folder, tables)
            small = [] if wal is None else ["--wal-segsize", "1"]
            programs.run(
                "initdb", "-A", "trust", "-U", "forwarder", "-E", "UTF8", "--locale", "C", "-N",
                "-D", server.data, "--waldir", (wal or folder) / "wal", *small, log=server._log,
            )  # fmt: skip
            with (server.data / "postgresql.conf").open("a") as settings:
                settings.write(f"{_SETTINGS}unix_socket_directories = '{folder}'\n")
                if wal is not None:
                    settings.write("wal_recycle = off\n")
            server.start()
            try:
                yield server
            finally:
                server.stop()

    @contextlib.contextmanager
    def standby(self, port: int) -> Iterator[Postgresql]:
        """Run an asynchronous standby, which reaches this server at ``port``."""
        with memory_folder() as folder:
            self._programs.own(folder)
            standby = Postgresql(self._programs, folder)
            self._programs.run(
                "pg_basebackup", "-d", dsn_at(port), "-R", "-c", "fast", "-D", standby.data,
                log=standby._log,
            )  # fmt: skip
            standby.start()
            try:
                yield standby
            finally:
                standby.stop()

    @property
    def dsn(self) -> str:
        return dsn_at(self.port)

    def start(self) -> None:
        """Start, and wait until it answers."""
        words = ("-D", self.data, "-p", str(self.port))
        self._process = self._programs.start("postgres", *words, log=self._log)
        until = time.monotonic() + _PATIENCE
        while not self.answers:
            if time.monotonic() > until or self.ended:
                raise Unavailable(f"no PostgreSQL: {self._log.read_text()[-500:]}")
            time.sleep(0.1)  # noqa: TID251 - no loop runs here

    @property
    def answers(self) -> bool:
        """Return True if it takes connections."""
        try:
            psycopg.connect(self.dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def ended(self) -> bool:
        """Return True if it has ended, or was never started."""
        return self._process is None or self._process.poll() is not None

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End all sessions and stop; with SIGQUIT as a crash would."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_PATIENCE)
            self._process = None

    def promote(self) -> None:
        """Make a standby take writes; what has not reached it yet is lost."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")
