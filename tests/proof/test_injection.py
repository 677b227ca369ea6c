"""Texts that would end a line, a field or a structure: one event stays one event, everywhere."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cefp
import orjson
import pytest

from tests.end_to_end.processes import ACCOUNT, until
from tests.formats.test_lines import read_leef
from tests.proof.ledger import Ledger
from tests.proof.site import quick, site
from tests.sinks.fakes_stream.syslog_receiver import SyslogReceiver

_OPTIONS = ("--rate", "1", "--scim-rate", "0", "--history", "1m")
_APP = "injected"
_FIELDS = ("user_email", "app_domain", "connection", "country", "ip_address", "ray_id", "action")
_ESCAPE = "\x1b[2J\x1b]0;title\x07\x9b31m"
TEXTS = (
    "a\nb", "a\r\nb", "a\rb", "a\x00b", "a\x0b\x0cb", "a\x85b\u2028c\u2029d", "a|b|c\\|d",
    "a=b\\=c", "a b=c act=allow suser=root", "x\ty\tusrName=root", "\\", "\\n", "a\\", "^", _ESCAPE,
    '"}\n{"event":"forged"}', '{"$ref":1}', "<script>alert(1)</script>", "${jndi:ldap://x/a}",
    "'; DROP TABLE x; --", "%s%n%x", "=cmd|'/C calc'!A0", '] [forged@1 a="b"]',
    '"] <13>1 - - - - - -', "\n<13>1 2026-01-01T00:00:00Z h a - - - forged",
    "\nCEF:0|Forged|x|1|1|x|9|", "\nLEEF:2.0|a|b|c|d|^|", "CEF:0|Cloudflare|x|1|1|x|9|act=forged",
    "\u202egnp.exe", "\ufeffbom", "\U0001f600" * 40, "x" * 5000,
)  # fmt: skip
_HEADER = re.compile(rb"<\d{1,3}>1 \d{4}-\S+ \S+ \S+ \S+ \S+ (-|\[.*?(?<!\\)\]) ")
_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def rows() -> list[bytes]:
    """Return a login for every text in every field."""
    made: list[bytes] = []
    for text in TEXTS:
        for field in _FIELDS:
            number = f"{len(made):016x}"
            login = {"action": "login", "allowed": False, "app_uid": _APP, "ray_id": number,
                     "user_email": "ann@example.com", "ip_address": "198.51.100.7",
                     "user_id": number}  # fmt: skip
            made.append(orjson.dumps(login | {field: text}))
    return made


def read_cef(line: str) -> Any:
    """Read a CEF line with a parser that is not ours."""
    read = cefp.parse(line)
    assert read["device"]["vendor"] == "Cloudflare"
    return read


READERS: dict[str, Callable[[str], object]] = {
    "ocsf": orjson.loads, "ecs": orjson.loads, "cim": orjson.loads, "raw": orjson.loads,
    "cef": read_cef, "leef": read_leef,
}  # fmt: skip


def lines_of(path: Path) -> list[bytes]:
    """Return what a file sink has written, cut at line feeds only."""
    return b"".join(one.read_bytes() for one in path.parent.iterdir()).split(b"\n")[:-1]


def stays_inside(name: str, line: bytes) -> bool:
    """Return True if a line is one event for a reader of its format, whatever is in it."""
    if _CONTROLS.search(line):
        return False
    try:
        READERS[name](line.decode())
    except Exception:  # noqa: BLE001 - readers have errors of all kinds
        return False
    return True


def test_a_format_that_escapes_nothing_is_found(ledger: Ledger) -> None:
    head = "CEF:0|Cloudflare|Access|1|login|Login|3|cs1="
    astray = [text for text in TEXTS if not stays_inside("cef", f"{head}{text}".encode())]

    assert len(astray) > 5
    assert not stays_inside("ecs", b'{"user":"a"}\n{"event":"forged"}')
    ledger.plant("Security", "a CEF line in which nothing is escaped",
                 f"{len(astray)} of {len(TEXTS)} texts leave their event")  # fmt: skip


@pytest.mark.timeout(200)
async def test_hostile_texts_stay_inside_their_event(tmp_path: Path, ledger: Ledger) -> None:
    files = {name: tmp_path / name / "lines" for name in READERS}
    made, only = rows(), {"only": {"app": [_APP]}}
    async with (
        SyslogReceiver("octet_counting") as counted,
        SyslogReceiver("lf") as plain,
        site(tmp_path, {}, *_OPTIONS) as daemon,
    ):
        sinks: dict[str, Any] = {"counted": counted, "plain": plain}
        settings = {
            name: {"type": "syslog", "format": "cef", "host": "127.0.0.1", "port": one.port,
                   "transport": "tcp", "framing": "lf" if name == "plain" else "octet_counting"}
            for name, one in sinks.items()
        }  # fmt: skip
        for name, path in files.items():
            path.parent.mkdir()
            settings[name] = {"type": "file", "format": name, "path": str(path)}
        daemon.settings["sinks"] = {name: quick(one | only) for name, one in settings.items()}
        await daemon.start()
        await daemon.running()
        raw = [b64encode(row).decode() for row in made]
        told = {"account": ACCOUNT, "stream": "access_requests", "raw": raw}
        await daemon.api.command("rows", told)
        await until(lambda: all(len(lines_of(p)) >= len(made) for p in files.values()), 90)
        await until(lambda: all(len(one.received) >= len(made) for one in sinks.values()), 90)
        assert await daemon.stop() == 0
        logged = daemon.errors().split("\n")[:-1]
        received = [*counted.received, *plain.received]
        lines = {name: lines_of(path) for name, path in files.items()}
        numbers = {name: len(found) for name, found in lines.items()}

        assert numbers == dict.fromkeys(files, len(made))
        assert len(received) == 2 * len(made)
        for name, found in lines.items():
            assert [line for line in found if not stays_inside(name, line)] == []
        for message in received:
            header = _HEADER.match(message)
            assert header, message
            assert read_cef(message[header.end() :].decode().removeprefix("\ufeff"))
        assert all(isinstance(orjson.loads(line), dict) for line in logged)
        ledger.row(
            "Security",
            "texts that would end a line, a field or a structure, in every field of a login",
            times=len(made),
            events=len(made),
            lost=len(made) - min(numbers.values()),
            more=f"one event each for parsers of {', '.join(READERS)} and two framings of syslog; "
            "each line of the log is JSON",
        )
