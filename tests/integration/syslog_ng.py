"""syslog-ng with syslog() over TCP and TLS and network() with lines, writing JSON lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.integration.syslog_server import SyslogServer

_SETTINGS = """@version: 3.38
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


class SyslogNg(SyslogServer):
    """One syslog-ng; ports: ``tcp`` and ``tls`` count octets, ``lines`` does not."""

    name = "syslog-ng"
    packages = (
        "syslog-ng-core",
        "libivykis0",
        "libnet1",
        "libjson-c5",
        "libpcre3",
        "libwrap0",
    )
    streams = ("tcp", "lines", "tls")
    settings = _SETTINGS
    message = "MESSAGE"

    def command(self) -> list[str | Path]:
        return [
            self.unpacked.root / "usr" / "sbin" / "syslog-ng",
            "-F",
            "--no-caps",
            f"--cfgfile={self.settings_file}",
            f"--persist-file={self.folder / 'persist'}",
            f"--pidfile={self.folder / 'pid'}",
            f"--control={self.folder / 'ctl'}",
            f"--module-path={next(self._modules.glob('[0-9]*'))}",
        ]

    def environment(self) -> Mapping[str, str]:
        return self.unpacked.environment(self._modules)

    @property
    def _modules(self) -> Path:
        return self.unpacked.root / "usr" / "lib" / "syslog-ng"
