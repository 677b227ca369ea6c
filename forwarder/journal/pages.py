"""Stored pages: how rows become one record of the file and come out again."""

from __future__ import annotations

import sqlite3
import struct
import sys
import zlib
from array import array
from collections.abc import Sequence
from typing import NamedTuple, cast

from forwarder.core.contracts import StoredPage, StreamKey
from forwarder.core.identity import SIZE
from forwarder.core.source_contract import Records
from forwarder.journal.database import CorruptError

try:
    from isal import igzip_lib, isal_zlib

    compress, decompress = isal_zlib.compress, isal_zlib.decompress
    _CORRUPT: tuple[type[Exception], ...] = (cast("type[Exception]", igzip_lib.IsalError),)
except ImportError:  # no wheel for this platform; the format is the same
    compress, decompress = zlib.compress, zlib.decompress
    _CORRUPT = (zlib.error,)

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
