"""The settings of the syslog sink, and presets for the receivers that people have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from forwarder.transport.settings import TlsSettings
from forwarder.transport.syslog_settings import SyslogSettings
from forwarder.transport.units import Duration, Size

_CEF_LINE = {"rfc": "3164", "app_name": "", "framing": "lf"}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    # IBM: LEEF after a header of RFC 3164, TLS listener on 6514; lines, since that is what its
    # plain listeners read.
    "qradar": {"transport": "tls", "port": 6514, "format": "leef", **_CEF_LINE},
    # CEF standard: "MMM dd HH:mm:ss host CEF:..." with nothing between host and CEF.
    "arcsight": {"transport": "tcp", "port": 514, "format": "cef", **_CEF_LINE},
    # SC4S listens with octet counting on 601 and tells CEF by its own columns.
    "sc4s": {"transport": "tcp", "port": 601, "framing": "octet_counting", "format": "cef"},
    # The agent's rsyslog or syslog-ng listens on 514 and passes what holds "CEF:" on as CEF.
    "sentinel": {"transport": "tcp", "port": 514, "format": "cef", **_CEF_LINE},
    # imtcp detects octet counting by itself and cuts at maxMessageSize, 8096 bytes of text.
    "rsyslog": {"transport": "tcp", "port": 514, "framing": "octet_counting", "format": "ocsf"},
    # syslog() reads octet counting on 601; log-msg-size is 65536, beyond it the connection ends.
    "syslog_ng": {
        "transport": "tcp",
        "port": 601,
        "framing": "octet_counting",
        "max_message_bytes": 65_536,
        "format": "ocsf",
    },
}
_DEFAULT_PORTS = {"udp": 514, "tcp": 514, "tls": 6514}
_UDP_BYTES = 2048


class SyslogConfig(SyslogSettings):
    """Where to send messages, how they are framed, and what is kept in case they are lost."""

    preset: Literal["qradar", "arcsight", "sc4s", "sentinel", "rsyslog", "syslog_ng"] | None = (
        Field(None, description="defaults that fit a receiver; every key can still be set")
    )
    transport: Literal["udp", "tcp", "tls"] = Field("tls", description="how messages travel")
    framing: Literal["octet_counting", "lf"] = Field(
        "octet_counting", description="how messages are told apart on tcp and tls"
    )
    tls: TlsSettings = Field(TlsSettings(), description="used when transport is tls")
    resend_window: Size = Field(
        4 * 2**20,
        description="bytes kept and sent again when a connection breaks, since the receiver's "
        "program may not have read them; 0: none",
    )
    resend_age: Duration = Field(60.0, description="older messages are not sent again")

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, given: Any) -> Any:
        """Put the preset's values, and what UDP needs, below what is given."""
        if not isinstance(given, dict):
            return given
        preset = dict(PRESETS.get(str(given.get("preset")), {}))
        preset.pop("format", None)
        values = preset | given
        if values.get("transport") == "udp":
            values.setdefault("max_message_bytes", _UDP_BYTES)
        return values

    @property
    def default_port(self) -> int:
        """Return the registered or customary port of the transport."""
        return _DEFAULT_PORTS[self.transport]
