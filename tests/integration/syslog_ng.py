"""syslog-ng with syslog() over TCP and TLS and network() with lines, writing JSON lines."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

from tests.integration.debian import Unpacked, unpack
from tests.sinks.fakes_stream.brokers import free_port, wait_for_port

_PACKAGES = (
    "syslog-ng-core",
    "libivykis0",
    "libnet1",
    "libjson-c5",
    "libpcre3",
    "libwrap0",
)
_CONFIG = """@version: 3.38
options {{ keep-hostname(yes); stats-freq(0); flush-lines(1); }};
source counted {{ syslog(transport("tcp") ip("127.0.0.1") port({tcp}) max-connections(100)); }};
source lines {{
  network(transport("tcp") ip("127.0.0.1") port({lines}) flags(syslog-protocol)
          max-connections(100));
}};
source protected {{
  syslog(transport("tls") ip("127.0.0.1") port({tls}) max-connections(100)
         tls(key-file("{folder}/server.key") cert-file("{folder}/server.pem")
             ca-file("{folder}/ca.pem") peer-verify(required-trusted)));
}};
destination kept {{
  file("{folder}/received" template("$(format-json --scope rfc5424,sdata)\\n"));
}};
log {{
  source(counted); source(lines); source(protected); destination(kept); flags(flow-control);
}};
"""


@dataclass
class SyslogNg:
    """One syslog-ng; ``received`` is what it wrote to its file, in order."""

    folder: Path
    unpacked: Unpacked
    tcp: int = field(default_factory=free_port)
    lines: int = field(default_factory=free_port)
    tls: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def configure(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        server = authority.issue_cert("127.0.0.1")
        server.private_key_pem.write_to_path(str(self.folder / "server.key"))
        server.cert_chain_pems[0].write_to_path(str(self.folder / "server.pem"))
        client = authority.issue_cert("client.test")
        client.private_key_and_cert_chain_pem.write_to_path(str(self.folder / "client.pem"))
        ports = {name: getattr(self, name) for name in ("tcp", "lines", "tls")}
        (self.folder / "syslog-ng.conf").write_text(_CONFIG.format(folder=self.folder, **ports))

    @property
    def client_tls(self) -> dict[str, Any]:
        """Return TLS settings with a certificate that it accepts."""
        pem = self.folder / "client.pem"
        return {"ca_file": self.folder / "ca.pem", "cert_file": pem, "key_file": pem}

    def start(self) -> None:
        libraries = self.unpacked.root / "usr" / "lib" / "syslog-ng"
        command = [
            str(self.unpacked.root / "usr" / "sbin" / "syslog-ng"),
            "-F",
            "--no-caps",
            f"--cfgfile={self.folder / 'syslog-ng.conf'}",
            f"--persist-file={self.folder / 'persist'}",
            f"--pidfile={self.folder / 'pid'}",
            f"--control={self.folder / 'ctl'}",
            f"--module-path={next(libraries.glob('[0-9]*'))}",
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self.unpacked.environment(libraries), stdout=log, stderr=log
            )
        for port in (self.tcp, self.lines, self.tls):
            wait_for_port(port)

    def kill(self) -> None:
        """End it at once."""
        self._end(graceful=False)

    def stop(self) -> None:
        """End it as an administrator would; it writes what it has."""
        self._end(graceful=True)

    def _end(self, *, graceful: bool) -> None:
        if self._process is not None:
            (self._process.terminate if graceful else self._process.kill)()
            self._process.wait(30)
            self._process = None

    def received(self) -> list[dict[str, Any]]:
        """Return every message it has written so far."""
        path = self.folder / "received"
        text = path.read_text(errors="replace") if path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def settled(self, quiet: float = 2) -> list[dict[str, Any]]:
        """Return every message, once nothing new has come for ``quiet`` seconds."""
        found, since = self.received(), time.monotonic()
        while time.monotonic() - since < quiet:
            time.sleep(0.1)  # noqa: TID251 - the other side is a process
            now = self.received()
            if len(now) > len(found):
                found, since = now, time.monotonic()
        return found

    def wait_for(self, count: int, patience: float = 20) -> list[dict[str, Any]]:
        """Return what it wrote, when there are ``count`` messages or time is up."""
        until = time.monotonic() + patience
        while len(found := self.received()) < count and time.monotonic() < until:
            time.sleep(0.05)  # noqa: TID251 - the other side is a process
        return found


@contextlib.contextmanager
def syslog_ng(folder: Path) -> Iterator[SyslogNg]:
    """Run syslog-ng with its state in ``folder``."""
    server = SyslogNg(folder, unpack("syslog-ng", _PACKAGES))
    server.configure()
    server.start()
    try:
        yield server
    finally:
        server.kill()
