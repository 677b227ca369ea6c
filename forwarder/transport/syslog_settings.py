"""The settings that syslog and RELP share: where to, and what stands before every body."""

from __future__ import annotations

import re
import socket
import ssl
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from forwarder.core.errors import TransientError
from forwarder.transport.settings import PluginSettings, TlsSettings
from forwarder.transport.stream import OnData, OnLost, Stream, connect
from forwarder.transport.stream_endpoint import Endpoint
from forwarder.transport.syslog_lines import FACILITIES, SEVERITIES, Header
from forwarder.transport.tls import Tls
from forwarder.transport.units import Duration, Size

Outcome = Literal["success", "failure", "unknown"]
Port = Annotated[int, Field(ge=1, le=65535)]
_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]]+))(?::(?P<port>\d{1,5}))?"
)


class SyslogSettings(PluginSettings):
    """One receiver or several, and the header of RFC 5424 or 3164."""

    host: str | None = Field(None, description="name or address of the receiver")
    hosts: list[str] = Field(
        [], description="several receivers, host or host:port; the next one when one fails"
    )
    port: Port | None = Field(None, description="port of every receiver that names none")
    connect_timeout: Duration = Field(10.0, description="time for connecting and the handshake")
    user_timeout: Duration = Field(
        30.0, description="give a connection up when sent bytes stay unacknowledged for so long"
    )
    rfc: Literal["5424", "3164"] = Field("5424", description="the header's form")
    facility: str = Field("authpriv", description="syslog facility, by name")
    severity: dict[Outcome, str] = Field(
        {"success": "info", "failure": "notice", "unknown": "notice"},
        description="syslog severity of each outcome, by name",
    )
    hostname: str | None = Field(None, description="HOSTNAME; default: this machine's name")
    app_name: str = Field("cloudflare-access", description="APP-NAME or TAG; empty: no TAG")
    structured_data: bool = Field(
        default=True, description="send stream, account and event id as structured data"
    )
    enterprise_number: int = Field(
        32473, ge=0, description="IANA number in the structured data's name; 32473 is for examples"
    )
    bom: bool = Field(default=False, description="put a byte order mark before the body")
    time_digits: Literal[3, 6] = Field(6, description="digits of the second in RFC 5424")
    max_message_bytes: Size = Field(
        8096, ge=480, description="longest message, header included; rsyslog cuts beyond 8096"
    )
    oversize: Literal["reject", "truncate"] = Field(
        "reject", description="a longer message becomes a dead letter, or is cut"
    )

    @field_validator("rfc", mode="before", json_schema_input_type=Literal["5424", "3164"] | int)
    @classmethod
    def _number_as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) else value

    @field_validator("facility")
    @classmethod
    def _known_facility(cls, value: str) -> str:
        if value not in FACILITIES:
            raise ValueError(f"no facility; known are {', '.join(FACILITIES)}")
        return value

    @field_validator("severity")
    @classmethod
    def _known_severity(cls, value: dict[Outcome, str]) -> dict[Outcome, str]:
        if unknown := set(value.values()) - set(SEVERITIES):
            raise ValueError(f"no severity: {min(unknown)}; known are {', '.join(SEVERITIES)}")
        return value

    @field_validator("hosts")
    @classmethod
    def _readable_addresses(cls, value: list[str]) -> list[str]:
        for address in value:
            split_address(address)
        return value

    @model_validator(mode="after")
    def _one_way_to_name_receivers(self) -> SyslogSettings:
        if bool(self.host) == bool(self.hosts):
            raise ValueError("set host, or hosts for several receivers")
        return self

    def header(self) -> Header:
        """Return what stands before every body."""
        return Header(
            rfc=self.rfc,
            facility=FACILITIES[self.facility],
            severities={outcome: SEVERITIES[name] for outcome, name in self.severity.items()},
            hostname=self.hostname or socket.gethostname(),
            app_name=self.app_name,
            sd_id=f"access@{self.enterprise_number}" if self.structured_data else None,
            bom=self.bom,
            digits=self.time_digits,
        )

    def addresses(self, default_port: int) -> list[tuple[str, int]]:
        """Return host and port of every receiver, the preferred one first."""
        fallback = self.port or default_port
        found = [(self.host, None)] if self.host else map(split_address, self.hosts)
        return [(host, port or fallback) for host, port in found]


class Route:
    """The receivers in turn: the one that works is kept, the next one is tried after a failure."""

    def __init__(
        self, settings: SyslogSettings, default_port: int, tls: TlsSettings | None
    ) -> None:
        """Read the addresses; files of ``tls`` are read when an endpoint is asked for."""
        self._settings = settings
        self._addresses = settings.addresses(default_port)
        self._tls = Tls(tls) if tls is not None else None
        self._current = 0

    def endpoint(self) -> Endpoint:
        """Return the receiver whose turn it is; raises ``NeedsOperatorError`` for its TLS files."""
        host, port = self._addresses[self._current]
        context: ssl.SSLContext | None = self._tls.context() if self._tls else None
        return Endpoint(
            host,
            port,
            context,
            self._tls.name_for(host) if self._tls else None,
            self._settings.connect_timeout,
            self._settings.user_timeout,
        )

    async def connect(self, on_data: OnData | None = None, on_lost: OnLost | None = None) -> Stream:
        """Try every receiver once, beginning with the one whose turn it is.

        Raises what ``transport.stream.connect`` raised for the first of them.
        """
        failures: list[TransientError] = []
        for _ in self._addresses:
            try:
                return await connect(self.endpoint(), on_data, on_lost)
            except TransientError as error:
                failures.append(error)
                self.advance()
        raise failures[0]

    def advance(self) -> None:
        """Turn to the next receiver."""
        self._current = (self._current + 1) % len(self._addresses)


def split_address(address: str) -> tuple[str, int | None]:
    """Return host and port of ``host``, ``host:port`` or ``[v6]:port``; raises ``ValueError``."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(f"{address!r} is no address; write host, host:port or [address]:port")
    return match["six"] or match["host"], int(match["port"]) if match["port"] else None
