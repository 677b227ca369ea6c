"""What rsyslog and syslog-ng have in common: certificates, a process, a file of JSON lines."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import trustme

from forwarder.testing.network import free_port, wait_for_port
from tests.integration.debian import Unpacked, unpack

_PATIENCE = 120.0
_QUIET = 5.0


class SyslogServer:
    """A server out of Debian's packages that writes what it receives to the file ``received``.

    ``ports`` has one for every name in ``streams`` and ``datagrams``.
    """

    name: ClassVar[str]
    packages: ClassVar[Sequence[str]]
    streams: ClassVar[Sequence[str]]
    datagrams: ClassVar[Sequence[str]] = ()
    settings: ClassVar[str]
    """With ``{folder}`` and the names of the ports."""
    message: ClassVar[str]
    """The key under which a received message has its text."""

    def __init__(self, folder: Path, unpacked: Unpacked) -> None:
        self.folder = folder
        self.unpacked = unpacked
        self.ports = {name: free_port() for name in (*self.streams, *self.datagrams)}
        self._process: subprocess.Popen[bytes] | None = None
        self._write_certificates()
        self.settings_file.write_text(self.settings.format(folder=folder, **self.ports))

    @classmethod
    @contextlib.contextmanager
    def run(cls, folder: Path) -> Iterator[Self]:
        """Run a server with its state in ``folder``; raises ``Unavailable``."""
        server = cls(folder, unpack(cls.name, cls.packages))
        server.start()
        try:
            yield server
        finally:
            server.kill()

    def command(self) -> list[str | Path]:
        """Return the command that starts the server."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return the variables it is started with."""
        return self.unpacked.environment()

    @property
    def settings_file(self) -> Path:
        return self.folder / f"{self.name}.conf"

    @property
    def client_tls(self) -> dict[str, Any]:
        """Return TLS settings with a certificate that it accepts."""
        pem = self.folder / "client.pem"
        return {"ca_file": self.folder / "ca.pem", "cert_file": pem, "key_file": pem}

    def start(self) -> None:
        """Start it and wait until it listens."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), env=dict(self.environment()), stdout=log, stderr=log
            )
        for name in self.streams:
            wait_for_port(self.ports[name])

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_PATIENCE)
            self._process = None

    def stop(self) -> None:
        """End it as an administrator would; it writes what it has."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_PATIENCE)
            self._process = None

    def received(self) -> list[dict[str, Any]]:
        """Return every message it has written so far, in order."""
        path = self.folder / "received"
        text = path.read_text(errors="replace") if path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def texts(self) -> list[str]:
        """Return the texts of the messages it has written so far, in order."""
        return [message[self.message] for message in self.received()]

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """Return what it wrote, when there are ``count`` messages or patience is at its end."""
        until = time.monotonic() + _PATIENCE
        while len(found := self.received()) < count and time.monotonic() < until:
            time.sleep(0.1)  # noqa: TID251 - the other side is a process
        return found

    def wait_for_all(self, texts: Sequence[str]) -> list[str]:
        """Return the texts it wrote, when all of ``texts`` are there or patience is at its end."""
        until = time.monotonic() + _PATIENCE
        while not set(texts) <= set(found := self.texts()) and time.monotonic() < until:
            time.sleep(0.1)  # noqa: TID251 - the other side is a process
        return found

    def settled(self) -> list[str]:
        """Return the texts it wrote, once nothing new has come for some seconds."""
        found, since = self.texts(), time.monotonic()
        while time.monotonic() - since < _QUIET:
            time.sleep(0.1)  # noqa: TID251 - the other side is a process
            now = self.texts()
            if len(now) > len(found):
                found, since = now, time.monotonic()
        return found

    def forget(self) -> None:
        """Empty its file; it appends."""
        (self.folder / "received").open("w").close()

    def _write_certificates(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        server = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
        server.private_key_pem.write_to_path(str(self.folder / "server.key"))
        server.cert_chain_pems[0].write_to_path(str(self.folder / "server.pem"))
        client = authority.issue_cert("client.test", key_type=trustme.KeyType.RSA)
        client.private_key_and_cert_chain_pem.write_to_path(str(self.folder / "client.pem"))
