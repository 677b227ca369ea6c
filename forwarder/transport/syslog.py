"""Syslog messages, the two ways to frame them on a stream, and the settings of their sinks.

    <PRI>1 TIME HOST APP - STREAM [sd stream="…" account="…" event_id="…"] BODY       RFC 5424
    <PRI>Jan  2 03:04:05 HOST TAG: BODY                                                RFC 3164

Parts that do not change from event to event are made once.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from forwarder.core.contracts import BatchEvent, Rejection
from forwarder.transport.settings import Duration, PluginSettings, Size, split_address

_FACILITY_NAMES = (
    "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp audit alert clock "
    "local0 local1 local2 local3 local4 local5 local6 local7"
)
_SEVERITY_NAMES = "emerg alert crit err warning notice info debug"
_MONTH_NAMES = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
FACILITIES = {name: number for number, name in enumerate(_FACILITY_NAMES.split())}
SEVERITIES = {name: number for number, name in enumerate(_SEVERITY_NAMES.split())}
_MONTHS = _MONTH_NAMES.split()
_NOT_PRINTABLE = re.compile(r"[^\x21-\x7e]")
_NOT_IN_A_TAG = re.compile(r"[^A-Za-z0-9_.-]")
_SECONDS_KEPT = 4096
_BOM = b"\xef\xbb\xbf"
_NOTICE, _INFO = SEVERITIES["notice"], SEVERITIES["info"]


@dataclass(frozen=True, slots=True)
class Header:
    """The header of every message.

    ``severities`` gives a number for each outcome (``notice`` for an unknown one), ``sd_id`` is the
    name of the structured data element or None for none, ``digits`` how many digits of the second
    RFC 5424 shows (3 or 6). With an empty ``app_name`` RFC 3164 has no tag, as CEF and LEEF
    readers want it.
    """

    rfc: Literal["5424", "3164"] = "5424"
    facility: int = FACILITIES["authpriv"]
    severities: Mapping[str, int] = field(
        default_factory=lambda: {"success": _INFO, "failure": _NOTICE, "unknown": _NOTICE}
    )
    hostname: str = ""
    app_name: str = "cloudflare-access"
    sd_id: str | None = "access@32473"
    bom: bool = False
    digits: Literal[3, 6] = 6


class SyslogLines:
    """Makes the messages of one sink."""

    def __init__(self, header: Header) -> None:
        """Prepare the parts that depend on nothing but ``header``."""
        self._header = header
        self._old = header.rfc == "3164"
        self._starts: dict[str, bytes] = {}
        self._middles: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        self._seconds: dict[int, bytes] = {}

    def lines(self, events: Sequence[BatchEvent]) -> list[bytes]:
        """Return one message an event, in their order, without framing."""
        starts, middles, made = self._starts, self._middles, []
        moment = self._old_time if self._old else self._time
        last_us, text = None, b""
        for _, event_id, stream, account, time_us, _, outcome, _, body in events:
            start = starts.get(outcome) or self._start(outcome)
            key = (stream, account)
            before, after = middles.get(key) or self._middle(*key)
            if time_us != last_us:
                last_us, text = time_us, moment(time_us)
            if after:
                made.append(b"".join((start, text, before, event_id.encode(), after, body)))
            else:
                made.append(b"".join((start, text, before, body)))
        return made

    def _start(self, outcome: str) -> bytes:
        severity = self._header.severities.get(outcome, _NOTICE)
        priority = self._header.facility * 8 + severity
        start = b"<%d>" % priority if self._old else b"<%d>1 " % priority
        self._starts[outcome] = start
        return start

    def _middle(self, stream: str, account: str) -> tuple[bytes, bytes]:
        """Return the parts before and after the event's id; the second is empty without an id."""
        made = self._old_middle() if self._old else self._new_middle(stream, account)
        self._middles[stream, account] = made
        return made

    def _old_middle(self) -> tuple[bytes, bytes]:
        tag = _NOT_IN_A_TAG.sub("", self._header.app_name)[:32]
        host = printable(self._header.hostname, 255)
        return f" {host} {tag}: ".encode() if tag else f" {host} ".encode(), b""

    def _new_middle(self, stream: str, account: str) -> tuple[bytes, bytes]:
        header = self._header
        host, app = printable(header.hostname, 255), printable(header.app_name, 48)
        start = f" {host} {app} - {printable(stream, 32)} "
        bom = _BOM if header.bom else b""
        if header.sd_id is None:
            return f"{start}- ".encode() + bom, b""
        known = f'stream="{escape_param(stream)}" account="{escape_param(account)}"'
        return f'{start}[{header.sd_id} {known} event_id="'.encode(), b'"] ' + bom

    def _time(self, time_us: int) -> bytes:
        """Return RFC 3339 in UTC with upper-case T and Z, cut to the configured digits."""
        second, rest = divmod(time_us, 1_000_000)
        text = self._seconds.get(second) or self._remember(second)
        if self._header.digits == 3:  # noqa: PLR2004 - milliseconds
            return b"%b.%03dZ" % (text, rest // 1000)
        return b"%b.%06dZ" % (text, rest)

    def _old_time(self, time_us: int) -> bytes:
        second = time_us // 1_000_000
        return self._seconds.get(second) or self._remember(second)

    def _remember(self, second: int) -> bytes:
        if len(self._seconds) > _SECONDS_KEPT:
            self._seconds.clear()
        text = self._seconds[second] = _old_second(second) if self._old else _new_second(second)
        return text


def _new_second(second: int) -> bytes:
    year, month, day, hour, minute, seconds = time.gmtime(second)[:6]
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{seconds:02}".encode()


def _old_second(second: int) -> bytes:
    _, month, day, hour, minute, seconds = time.gmtime(second)[:6]
    return f"{_MONTHS[month - 1]} {day:2} {hour:02}:{minute:02}:{seconds:02}".encode()


def printable(text: str, length: int) -> str:
    """Return ``text`` as a header field: printable ASCII without blanks, cut, ``-`` if empty."""
    return _NOT_PRINTABLE.sub("_", text)[:length] or "-"


def escape_param(value: str) -> str:
    """Return ``value`` for a structured data parameter; RFC 5424 escapes just these three."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def octet_counted(lines: Sequence[bytes]) -> list[bytes]:
    """Frame each message by its length in bytes (RFC 6587 3.4.1); it may hold line feeds."""
    return [b"%d %b" % (len(line), line) for line in lines]


def lf_terminated(lines: Sequence[bytes]) -> list[bytes]:
    """End each message with a line feed; those inside become a backslash and an n."""
    return [(line.replace(b"\n", b"\\n") if b"\n" in line else line) + b"\n" for line in lines]


def within(
    events: Sequence[BatchEvent], lines: list[bytes], most: int, *, cut: bool
) -> tuple[list[bytes], list[Rejection]]:
    """Handle messages of more than ``most`` bytes: cut them, or reject them with their size."""
    # Receivers cut such a message silently (rsyslog) or close the connection (syslog-ng).
    if max(map(len, lines), default=0) <= most:
        return lines, []
    if cut:
        return [line if len(line) <= most else _cut(line, most) for line in lines], []
    refused = [
        Rejection(event.offset, f"a message of {len(line)} bytes is over max_message_bytes {most}")
        for event, line in zip(events, lines, strict=True)
        if len(line) > most
    ]
    return [line for line in lines if len(line) <= most], refused


def _cut(line: bytes, most: int) -> bytes:
    """Return at most ``most`` bytes that end with a whole character."""
    return line[:most].decode(errors="ignore").encode()


Outcome = Literal["success", "failure", "unknown"]
Port = Annotated[int, Field(ge=1, le=65535)]


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

    @field_validator("host", "hosts")
    @classmethod
    def _readable_addresses(cls, value: str | list[str] | None) -> str | list[str] | None:
        for address in (value,) if isinstance(value, str) else value or ():
            split_address(address)
        return value

    @model_validator(mode="after")
    def _one_way_to_name_receivers(self) -> SyslogSettings:
        if bool(self.host) == bool(self.hosts):
            raise ValueError("set host, or hosts for several receivers")
        if self.host and self.port and split_address(self.host)[1] not in (None, self.port):
            raise ValueError("host names another port than port; keep one of them")
        return self

    def header(self) -> Header:
        """Return the header of every message."""
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
        found = map(split_address, [self.host] if self.host else self.hosts)
        return [(host, port or fallback) for host, port in found]
