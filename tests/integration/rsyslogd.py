"""rsyslog with imtcp over TLS, imptcp, imudp and imrelp with and without TLS, writing JSON."""

from __future__ import annotations

from pathlib import Path

from tests.integration.syslog_server import SyslogServer

_SETTINGS = """
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


class Rsyslogd(SyslogServer):
    """One rsyslogd; ports: ``tcp``, ``tls``, ``udp``, ``relp``, ``relp_tls``."""

    name = "rsyslog"
    packages = (
        "rsyslog",
        "rsyslog-relp",
        "rsyslog-gnutls",
        "libestr0",
        "libfastjson4",
        "liblognorm5",
        "librelp0",
    )
    streams = ("tcp", "tls", "relp", "relp_tls")
    datagrams = ("udp",)
    settings = _SETTINGS
    message = "msg"

    def command(self) -> list[str | Path]:
        return [
            self.unpacked.root / "usr" / "sbin" / "rsyslogd",
            "-n",
            f"-f{self.settings_file}",
            f"-i{self.folder / 'pid'}",
            f"-M{self.unpacked.libraries / 'rsyslog'}",
        ]
