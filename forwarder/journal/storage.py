"""What every operation builds on: numbers of streams and lanes, small values, stored pages."""

from __future__ import annotations

import sqlite3
import struct
import sys
import zlib
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import orjson

from forwarder.core.contracts import StoredPage, StreamKey
from forwarder.core.identity import SIZE
from forwarder.core.source_contract import Records

try:
    from isal import igzip_lib, isal_zlib

    compress, decompress = isal_zlib.compress, isal_zlib.decompress
    _CORRUPT: tuple[type[Exception], ...] = (cast("type[Exception]", igzip_lib.IsalError),)
except ImportError:  # no wheel for this platform; the format is the same
    compress, decompress = zlib.compress, zlib.decompress
    _CORRUPT = (zlib.error,)


class CorruptError(Exception):
    """What is stored is not what was written: says what and where in the file.

    Raised inside of this room only; ``translated`` makes ``DamagedError`` of it.
    """


HOUR_US = 3_600_000_000
"""No stored page spans more: what was seen before is then found by a narrow range of times."""

_LEVEL = 1
_SMALL = struct.Struct("<8q")


class Place(NamedTuple):
    """Where rows go: the stream's and the lane's number, and when the rows were seen."""

    stream: int
    lane: int
    seen_us: int


def pack_body(rows: bytes) -> bytes:
    """Return a compressed JSON array of rows; the format carries a checksum."""
    return compress(rows, _LEVEL)


def unpack_body(body: bytes, first_offset: int) -> bytes:
    """Return the JSON array; raises ``CorruptError`` when the checksum does not fit."""
    try:
        return decompress(body)
    except _CORRUPT as error:
        raise CorruptError(
            f"the stored page at offset {first_offset} does not match its checksum"
        ) from error


def split_hashes(hashes: bytes) -> list[bytes]:
    """Return the 16-byte identities of a stored page."""
    return [hashes[i : i + SIZE] for i in range(0, len(hashes), SIZE)]


def buckets(
    times_us: Sequence[int | None], indices: Sequence[int]
) -> dict[int | None, Sequence[int]]:
    """Group indices by the hour of their time, timeless ones under None, order kept.

    So late and future-dated rows never stretch the page of the others.
    """
    times = [times_us[index] for index in indices]
    timed = [t for t in times if t is not None] if None in times else cast("list[int]", times)
    if not timed:
        return {None: indices} if times else {}
    if len(timed) == len(times) and min(timed) // HOUR_US == max(timed) // HOUR_US:
        return {timed[0] // HOUR_US: indices}
    groups: dict[int | None, list[int]] = {}
    for time_us, index in zip(times, indices, strict=True):
        groups.setdefault(None if time_us is None else time_us // HOUR_US, []).append(index)
    return dict(groups)


def take_offsets(connection: sqlite3.Connection, count: int) -> int:
    """Reserve ``count`` offsets inside the caller's transaction; return the first."""
    row = connection.execute(
        "UPDATE counter SET next_offset = next_offset + ? RETURNING next_offset", (count,)
    ).fetchone()
    return int(row[0]) - count


def insert_page(connection: sqlite3.Connection, place: Place, records: Records) -> tuple[int, int]:
    """Store ``records`` (of one bucket) as one page; return its first and its end offset."""
    timeless = records.times_us[0] is None
    times = array("q", [place.seen_us if t is None else t for t in records.times_us])
    earliest, latest = min(times), max(times)
    if sys.byteorder == "big":
        times.byteswap()
    packed, hashes, body = times.tobytes(), b"".join(records.identities), pack_body(records.text)
    first = take_offsets(connection, len(records))
    small = (first, len(records), *place, timeless, earliest, latest)
    connection.execute(
        "INSERT INTO page VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*small, len(body), checksum(small, packed, hashes), packed, hashes, body),
    )
    return first, first + len(records)


def fresh_page(
    key: StreamKey, seen_us: int, first_offset: int, records: Records
) -> StoredPage | None:
    """Return what reading a page that was just stored would give, if its rows are at hand."""
    if records.parsed is None:
        return None
    page = StoredPage(
        first_offset=first_offset,
        account_id=key.account_id,
        stream=key.stream,
        seen_us=seen_us,
        times_us=array("q", [seen_us if t is None else t for t in records.times_us]),
        ids=b"".join(records.identities),
        body=records.text,
    )
    page.__dict__["rows"] = list(records.parsed)
    return page


def checksum(small: tuple[int, ...], times: bytes, hashes: bytes) -> int:
    """Return the CRC-32 of a page's small columns in the file's order, its times and identities."""
    return zlib.crc32(hashes, zlib.crc32(times, zlib.crc32(_SMALL.pack(*small))))


class PageRow(NamedTuple):
    """A page as the file has it, with its stream's names."""

    account_id: str
    name: str
    first_offset: int
    length: int
    stream: int
    lane: int
    seen_us: int
    timeless: int
    tmin_us: int
    tmax_us: int
    crc: int
    times: bytes
    hashes: bytes
    body: bytes

    def verify(self) -> None:
        """Raise ``CorruptError`` when a column is not what was stored, whatever the body is."""
        try:
            whole = checksum(self[2:10], self.times, self.hashes) == self.crc
        except (TypeError, struct.error):  # a flipped type: text or nothing where a number was
            whole = False
        if not whole:
            raise CorruptError(
                f"the stored page at offset {self.first_offset} does not match its checksum"
            )


def to_stored(row: PageRow) -> StoredPage:
    """Unpack a page; raises ``CorruptError`` when it is not what was stored."""
    row.verify()
    times = array("q", row.times)
    if sys.byteorder == "big":
        times.byteswap()
    return StoredPage(
        first_offset=row.first_offset,
        account_id=row.account_id,
        stream=row.name,
        seen_us=row.seen_us,
        times_us=times,
        ids=row.hashes,
        body=unpack_body(row.body, row.first_offset),
    )


def tail(page: StoredPage, offset: int) -> StoredPage:
    """Return ``page`` from ``offset`` on; the page itself when it starts there."""
    skip = offset - page.first_offset
    if skip <= 0:
        return page
    part = StoredPage(
        first_offset=offset,
        account_id=page.account_id,
        stream=page.stream,
        seen_us=page.seen_us,
        times_us=page.times_us[skip:],
        ids=page.ids[skip * SIZE :],
        body=b"",
    )
    part.__dict__["rows"] = page.rows[skip:]
    return part


def stream_id(connection: sqlite3.Connection, account_id: str, stream: str) -> int:
    """Return the stream's number, giving it one inside the writer's transaction if need be."""
    connection.execute(
        "INSERT OR IGNORE INTO stream (account_id, name) VALUES (?, ?)", (account_id, stream)
    )
    return int(
        connection.execute(
            "SELECT id FROM stream WHERE account_id = ? AND name = ?", (account_id, stream)
        ).fetchone()[0]
    )


def lane_id(connection: sqlite3.Connection, lane: str) -> int:
    """Return the number of an existing lane; raises ``LookupError`` for an unknown one."""
    found = connection.execute("SELECT id FROM lane WHERE name = ?", (lane,)).fetchone()
    if found is None:
        raise LookupError(f"there is no lane {lane}")
    return int(found[0])


def next_offset(connection: sqlite3.Connection) -> int:
    """Return the offset that the next row will get."""
    return int(connection.execute("SELECT next_offset FROM counter").fetchone()[0])


def recall(connection: sqlite3.Connection, scope: str, key: str) -> Any | None:
    """Return the JSON value kept under a scope and key, or None."""
    found = connection.execute(
        "SELECT value FROM memory WHERE scope = ? AND key = ?", (scope, key)
    ).fetchone()
    return None if found is None else orjson.loads(found[0])


def keep(connection: sqlite3.Connection, scope: str, key: str, value: Any) -> None:
    """Store a JSON value under a scope and key."""
    connection.execute(
        "INSERT OR REPLACE INTO memory VALUES (?, ?, ?)",
        (scope, key, orjson.dumps(value).decode()),
    )
