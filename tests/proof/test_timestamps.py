"""Rows with times that nobody expects: read once, delivered once, in every format."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import orjson
import pytest

from tests.end_to_end.processes import ACCOUNT, until
from tests.proof.books import digest
from tests.proof.ledger import Ledger
from tests.proof.sinks import five
from tests.proof.site import Site, missing, quick, site

_OPTIONS = ("--rate", "10", "--scim-rate", "1", "--history", "2m")
_FORMATS = ("ocsf", "ecs", "cim", "cef", "leef")
STAMPS = (
    "2016-12-31T23:59:60Z", "2026-06-30T23:59:60.999999Z", "9999-12-31T23:59:60Z",
    "2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00", "2026-11-01T01:30:00",
    "2026-03-08T02:30:00-05:00", "2026-10-25T02:30:00[Europe/Berlin]",
    "2026-11-20T24:00:00Z", "2026-02-29T12:00:00Z", "2024-02-29T12:00:00Z",
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59-12:00", "10000-01-01T00:00:00Z",
    "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z", "2038-01-19T03:14:08Z",
    "2026-11-20T12:00:00.123456789Z", "2026-11-20T12:00:00.1Z", "2026-11-20T12:00:00,5Z",
    "2026-11-20t12:00:00z", "2026-11-20 12:00:00+00:00", "2026-11-20T12:00:00+05:45",
    "2026-11-20T12:00:00+23:59", "2026-11-20T12:00:00-00:00", "2026-11-20T12:00:00+0530",
    "20261120T120000Z", "2026-W47-5T12:00:00Z", "2026-324T12:00:00Z", "1795176000",
    "", " ", "now", "2026-11-20T12:00:00Z\n", "\u0662\u0660\u0662\u0666-11-20T12:00:00Z",
)  # fmt: skip
ODD: tuple[object, ...] = (
    None,
    0,
    -1,
    1795176000,
    1795176000.5,
    1e308,
    True,
    [],
    {},
    ["2026-11-20T12:00:00Z"],
)


def row(number: int, stamp: object) -> bytes:
    """Return a login with a time that the API lists under the present, whatever it says.

    The key is escaped: the simulator, which files rows by the time they state, does not find it.
    """
    login = {
        "action": "login", "allowed": True, "app_domain": "odd.example.com", "app_uid": f"{number}",
        "connection": "saml", "country": "us", "created_at": stamp, "ip_address": "198.51.100.7",
        "ray_id": f"{number:016x}", "user_email": f"user{number}@example.com",
    }  # fmt: skip
    return orjson.dumps(login).replace(b'"created_at"', b'"created\\u005fat"')


async def show(daemon: Site, rows: list[bytes]) -> None:
    """Have the API show these rows from now on."""
    raw = [b64encode(one).decode() for one in rows]
    await daemon.api.command("rows", {"account": ACCOUNT, "stream": "access_requests", "raw": raw})


def files_of(path: Path) -> list[bytes]:
    """Return the lines of a file sink."""
    return b"".join(one.read_bytes() for one in path.parent.iterdir()).split(b"\n")[:-1]


@pytest.mark.timeout(200)
async def test_rows_with_odd_times_arrive_once_in_every_format(
    tmp_path: Path, ledger: Ledger
) -> None:
    lines = {name: tmp_path / name / "lines" for name in _FORMATS}
    rows = [row(number, stamp) for number, stamp in enumerate((*STAMPS, *ODD))]
    async with five(tmp_path) as sinks, site(tmp_path, sinks.settings(), *_OPTIONS) as daemon:
        for name, path in lines.items():
            path.parent.mkdir()
            daemon.settings["sinks"][name] = quick(
                {"type": "file", "format": name, "path": str(path),
                 "only": {"app": ["odd.example.com"]}}
            )  # fmt: skip
        await daemon.start()
        await until(lambda: sinks.hec.book.arrived)
        await show(daemon, rows)
        odd = {digest(orjson.loads(one)) for one in rows}
        await until(lambda: odd <= set(sinks.hec.book.rows.values()), 60)
        shown, recovery = await daemon.settled(sinks.books, 60, sinks.refused)
        assert await daemon.stop() == 0
        dead = await daemon.dead_letters()
        left = missing(shown, sinks.books, {"bulk": lambda: dead.get("bulk", set())})

        rendered = {name: len(files_of(path)) for name, path in lines.items()}

        assert left == dict.fromkeys(sinks.books, 0)
        assert sinks.hec.book.again == 0
        assert rendered == dict.fromkeys(_FORMATS, len(rows))
        ledger.row(
            "Clock",
            "rows with leap seconds, DST, odd offsets, year 1 and 9999, nanoseconds, or no time",
            times=len(rows),
            events=shown.total(),
            lost=sum(left.values()),
            again=sinks.again(),
            recovery=recovery,
            more=f"one line each in {', '.join(_FORMATS)}",
        )
