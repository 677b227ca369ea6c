"""rsyslog with imtcp over TLS, imptcp, imudp and imrelp with and without TLS, writing JSON."""

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
    "rsyslog",
    "rsyslog-relp",
    "rsyslog-gnutls",
    "libestr0",
    "libfastjson4",
    "liblognorm5",
    "librelp0",
)
_CONFIG = """
global(workDirectory="{folder}" defaultNetstreamDriverCAFile="{folder}/ca.pem"
       defaultNetstreamDriverCertFile="{folder}/server.pem"
       defaultNetstreamDriverKeyFile="{folder}/server.key")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1"
       streamDriver.authMode="x509/certvalid")
module(load="imptcp")
module(load="imudp")
module(load="imrelp" tls.tlslib="gnutls")
template(name="json" type="list" option.jsonf="on") {{
  property(outname="pri" name="pri" format="jsonf")
  property(outname="timestamp" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="msgid" name="msgid" format="jsonf")
  property(outname="sd" name="structured-data" format="jsonf")
  property(outname="msg" name="msg" format="jsonf")
}}
ruleset(name="keep") {{
  action(type="omfile" file="{folder}/received" template="json"
         asyncWriting="off" flushOnTXEnd="on")
}}
input(type="imtcp" port="{tls}" address="127.0.0.1" ruleset="keep")
input(type="imptcp" port="{tcp}" address="127.0.0.1" ruleset="keep")
input(type="imudp" port="{udp}" address="127.0.0.1" ruleset="keep")
input(type="imrelp" port="{relp}" address="127.0.0.1" ruleset="keep")
input(type="imrelp" port="{relp_tls}" address="127.0.0.1" ruleset="keep" tls="on"
      tls.caCert="{folder}/ca.pem" tls.myCert="{folder}/server.pem"
      tls.myPrivKey="{folder}/server.key" tls.authMode="name" tls.permittedPeer=["client.test"])
"""


@dataclass
class Rsyslogd:
    """One rsyslogd; ``received`` is what it wrote to its file, in order."""

    folder: Path
    unpacked: Unpacked
    tcp: int = field(default_factory=free_port)
    tls: int = field(default_factory=free_port)
    udp: int = field(default_factory=free_port)
    relp: int = field(default_factory=free_port)
    relp_tls: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def configure(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        server = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
        server.private_key_pem.write_to_path(str(self.folder / "server.key"))
        server.cert_chain_pems[0].write_to_path(str(self.folder / "server.pem"))
        client = authority.issue_cert("client.test", key_type=trustme.KeyType.RSA)
        client.private_key_and_cert_chain_pem.write_to_path(str(self.folder / "client.pem"))
        ports = {name: getattr(self, name) for name in ("tcp", "tls", "udp", "relp", "relp_tls")}
        (self.folder / "rsyslog.conf").write_text(_CONFIG.format(folder=self.folder, **ports))

    @property
    def client_tls(self) -> dict[str, Any]:
        """Return TLS settings with a certificate that it accepts."""
        pem = self.folder / "client.pem"
        return {"ca_file": self.folder / "ca.pem", "cert_file": pem, "key_file": pem}

    def start(self) -> None:
        command = [
            str(self.unpacked.root / "usr" / "sbin" / "rsyslogd"),
            "-n",
            f"-f{self.folder / 'rsyslog.conf'}",
            f"-i{self.folder / 'pid'}",
            f"-M{self.unpacked.libraries / 'rsyslog'}",
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self.unpacked.environment(), stdout=log, stderr=log
            )
        for port in (self.tcp, self.tls, self.relp, self.relp_tls):
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

    def forget(self) -> None:
        """Empty its file; it appends."""
        (self.folder / "received").open("w").close()


@contextlib.contextmanager
def rsyslogd(folder: Path) -> Iterator[Rsyslogd]:
    """Run rsyslog with its state in ``folder``."""
    server = Rsyslogd(folder, unpack("rsyslog", _PACKAGES))
    server.configure()
    server.start()
    try:
        yield server
    finally:
        server.kill()
