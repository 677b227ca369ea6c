"""Syslog messages as RFC 5424 and RFC 3164 write them, and the two ways to frame them on a stream.

    <PRI>1 TIME HOST APP - STREAM [sd stream="…" account="…" event_id="…"] BODY       RFC 5424
    <PRI>Jan  2 03:04:05 HOST TAG: BODY                                                RFC 3164

Pure and made for speed: whatever does not change from event to event is made once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from forwarder.core.model import BatchEvent, Rejection

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
    """What stands before every body.

    ``severities`` gives a number for each outcome (one it does not know is ``notice``),
    ``sd_id`` the name of the structured data element or None for none, ``digits`` how many digits
    of the second RFC 5424 shows (3 or 6). With ``app_name`` empty RFC 3164 has no tag, as CEF and
    LEEF readers want it.
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
    """Makes messages; one object for each sink, since it remembers what repeats."""

    def __init__(self, header: Header) -> None:
        """Prepare the parts that depend on nothing but ``header``."""
        self._header = header
        self._old = header.rfc == "3164"
        self._starts: dict[str, bytes] = {}
        self._middles: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        self._seconds: dict[int, bytes] = {}

    def line(self, event: BatchEvent) -> bytes:
        """Return the whole message for ``event``, without framing."""
        return self.lines((event,))[0]

    def lines(self, events: Sequence[BatchEvent]) -> list[bytes]:
        """Return one message an event, in their order."""
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
        """Return what stands before the event's id, and what follows it (empty: no id at all)."""
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
        """Return RFC 3339 in UTC with upper-case T and Z, cut to the digits asked for."""
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
    """Return ``text`` as a header field: printable ASCII without blanks, cut, ``-`` for nothing."""
    return _NOT_PRINTABLE.sub("_", text)[:length] or "-"


def escape_param(value: str) -> str:
    """Return ``value`` for a structured data parameter: only these three are escaped, by RFC."""
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
    """Split off messages of more than ``most`` bytes: cut them, or reject them with their size.

    Receivers cut such a message silently (rsyslog) or close the connection (syslog-ng).
    """
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
