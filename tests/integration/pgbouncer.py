"""PgBouncer out of Debian's package, in transaction mode, in front of a PostgreSQL server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg

from forwarder.testing.network import free_port, wait_for_port
from tests.integration.postgresql import Programs, dsn_at, memory_folder

_PATIENCE = 30.0
_SETTINGS = """\
[databases]
postgres = host=127.0.0.1 port={upstream} dbname=postgres user=forwarder
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
admin_users = forwarder
pool_mode = transaction
default_pool_size = 20
"""


class PgBouncer:
    """One pooler."""

    def __init__(self, folder: Path, upstream: int) -> None:
        self._file = folder / "pgbouncer.ini"
        self.port = free_port()
        self._point_at(upstream)

    @classmethod
    @contextlib.contextmanager
    def run(cls, upstream: int) -> Iterator[PgBouncer]:
        """Run a pooler for the server at port ``upstream``; raises ``Unavailable``."""
        with memory_folder() as folder:
            programs = Programs(folder, "pgbouncer", "usr/sbin/pgbouncer")
            pooler = cls(folder, upstream)
            process = programs.start("pgbouncer", pooler._file, log=folder / "log")
            try:
                wait_for_port(pooler.port)
                yield pooler
            finally:
                process.terminate()
                process.wait(_PATIENCE)

    @property
    def dsn(self) -> str:
        return dsn_at(self.port)

    def pause(self) -> None:
        """Let transactions end and hold the next ones; no client notices."""
        self._console("PAUSE")

    def resume(self, upstream: int) -> None:
        """Continue with the server at port ``upstream``."""
        self._point_at(upstream)
        self._console("RELOAD")
        self._console("RESUME")

    def _point_at(self, upstream: int) -> None:
        self._file.write_text(_SETTINGS.format(upstream=upstream, port=self.port))
        self._file.chmod(0o644)

    def _console(self, command: str) -> None:
        dsn = self.dsn.replace("dbname=postgres", "dbname=pgbouncer")
        with contextlib.closing(psycopg.connect(dsn, autocommit=True)) as console:
            console.execute(command)
