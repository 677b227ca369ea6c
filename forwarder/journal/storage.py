"""What every operation builds on: a session, look-ups of numbers and small values, stored pages.

The SQL of this package is the subset that SQLite and PostgreSQL share: ``ON CONFLICT`` instead of
``INSERT OR``, ``RETURNING``, no JSON functions, no untyped sums of parameters. What only SQLite has
(pragmas, its catalogue, the second copies of small values) stays in ``database``, what only
PostgreSQL has (the fence, limits of time) in ``postgres`` and ``fleet``.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, cast

import orjson

from forwarder.core.contracts import StoredPage, StreamKey
from forwarder.core.errors import AbsentError, StateError, TransientError
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

    Raised inside of this package only; the engine's ``translated`` makes ``DamagedError`` of it.
    """


class Rows(Protocol):
    """The result of a statement."""

    @property
    def rowcount(self) -> int:
        """Return how many rows the statement changed."""
        ...

    def fetchone(self) -> Any:
        """Return the next row as a tuple, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Give the rows one by one."""
        ...


class Session(Protocol):
    """A connection to an engine, inside one transaction or between two.

    The functions of this package call ``execute`` alone. Only the writer begins and ends
    transactions, and only whoever made a session closes it.
    """

    def execute(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Rows:
        """Run one statement with ``?`` or ``:name`` parameters."""
        ...

    def begin(self) -> None:
        """Begin a transaction that may write."""
        ...

    def begin_reading(self) -> None:
        """Begin a transaction that sees one state of all tables."""
        ...

    def commit(self) -> None:
        """Make the transaction durable."""
        ...

    def rollback(self) -> None:
        """Undo the transaction; harmless when none is open."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Return True while a transaction is open."""
        ...

    @property
    def changes(self) -> int:
        """Return how many rows were written since the session was opened."""
        ...

    @property
    def ended(self) -> TransientError | None:
        """Return why this session can never write again, or None."""
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


class Engine(Protocol):
    """What keeps the journal: opens sessions, and says in our words what went wrong."""

    def reading(self) -> Session:
        """Open a session that sees what is committed, and cannot write."""
        ...

    def size(self, session: Session) -> int:
        """Return the bytes that the journal takes on its disk."""
        ...

    def translated(self) -> AbstractContextManager[None]:
        """Raise the engine's errors inside as ``TransientError`` or ``DamagedError``."""
        ...


HOUR_US = 3_600_000_000
"""No stored page spans more: what was seen before is then found by a narrow range of times."""

MOST_ROWS = 1_000
MOST_RAW = 4 * 2**20
MOST_PACKED = 900_000
LIVE_LANE = 1
# Level 1: higher levels cost several times the CPU for a few per cent of the bytes.
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
        # Both libraries verify the Adler-32 that zlib keeps behind the data.
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
    # The usual page lies in one hour; this is for answers with late or wrongly dated rows.
    groups: dict[int | None, list[int]] = {}
    for time_us, index in zip(times, indices, strict=True):
        groups.setdefault(None if time_us is None else time_us // HOUR_US, []).append(index)
    return dict(groups)


def take_offsets(session: Session, count: int) -> int:
    """Reserve ``count`` offsets inside the caller's transaction; return the first."""
    row = session.execute(
        "UPDATE counter SET next_offset = next_offset + ? RETURNING next_offset", (count,)
    ).fetchone()
    return int(row[0]) - count


def insert_pages(session: Session, place: Place, records: Records) -> list[tuple[int, Records]]:
    """Store ``records`` (of one bucket); return each stored page with its first offset.

    A page has at most 1,000 rows, 4 MiB of JSON and 900 kB packed, so that one page never holds
    the event loop or the memory of a sink for long, and fits into one message of any engine. A
    single row that is larger has a page of its own.
    """
    stored: list[tuple[int, Records]] = []
    for part in _parts(records):
        body = pack_body(part.text)
        if len(body) > MOST_PACKED and len(part) > 1:
            # Halving packs a little more than needed, but only answers with huge rows come here.
            middle = len(part) // 2
            for half in (range(middle), range(middle, len(part))):
                stored += insert_pages(session, place, part.part(half))
        else:
            stored.append((_insert_page(session, place, part, body), part))
    return stored


def _parts(records: Records) -> Iterator[Records]:
    """Cut records by number and by bytes of JSON, which are known before anything is packed."""
    if len(records) <= MOST_ROWS and len(records.text) <= MOST_RAW:
        yield records
        return
    start, size = 0, 0
    for index, length in enumerate(records.lengths):
        if index > start and (index - start >= MOST_ROWS or size + length > MOST_RAW):
            yield records.part(range(start, index))
            start, size = index, 0
        size += length
    yield records.part(range(start, len(records)))


def _insert_page(session: Session, place: Place, records: Records, body: bytes) -> int:
    timeless = int(records.times_us[0] is None)
    times = array("q", [place.seen_us if t is None else t for t in records.times_us])
    earliest, latest = min(times), max(times)
    # The file is little endian on every machine: it may be moved to another one.
    if sys.byteorder == "big":
        times.byteswap()
    first = take_offsets(session, len(records))
    small = (first, len(records), *place, timeless, earliest, latest)
    write_page(session, small, times.tobytes(), b"".join(records.identities), body)
    return first


def write_page(
    session: Session, small: tuple[int, ...], times: bytes, hashes: bytes, body: bytes | None
) -> None:
    """Insert one record of table ``page``; ``small`` are its columns up to ``tmax_us``."""
    session.execute(
        "INSERT INTO page VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*small, len(body or b""), checksum(small, times, hashes), times, hashes, body),
    )


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
    return page.with_rows(records.parsed)


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


def with_checksum(row: PageRow) -> PageRow:
    """Return a page that was stored before pages had checksums, with the one it would have."""
    return row._replace(crc=checksum(row[2:10], row.times, row.hashes))


def unpack_times(packed: bytes) -> array[int]:
    """Return the times of a stored page's rows."""
    times = array("q", packed)
    if sys.byteorder == "big":
        times.byteswap()
    return times


def to_stored(row: PageRow) -> StoredPage:
    """Unpack a page; raises ``CorruptError`` when it is not what was stored."""
    row.verify()
    return StoredPage(
        first_offset=row.first_offset,
        account_id=row.account_id,
        stream=row.name,
        seen_us=row.seen_us,
        times_us=unpack_times(row.times),
        ids=row.hashes,
        body=unpack_body(row.body, row.first_offset),
    )


def stream_id(session: Session, account_id: str, stream: str) -> int:
    """Return the stream's number, giving it one inside the writer's transaction if need be."""
    session.execute(
        "INSERT INTO stream (account_id, name) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (account_id, stream),
    )
    return int(
        session.execute(
            "SELECT id FROM stream WHERE account_id = ? AND name = ?", (account_id, stream)
        ).fetchone()[0]
    )


def lane_id(session: Session, lane: str) -> int:
    """Return the number of an existing lane; raises ``LookupError`` for an unknown one."""
    found = session.execute("SELECT id FROM lane WHERE name = ?", (lane,)).fetchone()
    if found is None:
        raise LookupError(f"there is no lane {lane}")
    return int(found[0])


def open_lane_id(session: Session, lane: str) -> int:
    """Return the number of a lane that still grows; raises ``StateError`` for any other.

    A reader that is being cancelled may have one page on its way. Stored behind the lane's end it
    would count as seen and reach nobody.
    """
    # Read in the transaction of the append: a lane can be stopped between two of them.
    found = session.execute(
        "SELECT id FROM lane WHERE name = ? AND state = 'open' AND end_offset IS NULL", (lane,)
    ).fetchone()
    if found is None:
        raise StateError(f"lane {lane} is over; nothing more is stored in it")
    return int(found[0])


def sink_id(session: Session, sink: str) -> int:
    """Return the number of a sink; raises ``AbsentError`` for one the journal does not know."""
    found = session.execute("SELECT id FROM sink WHERE name = ?", (sink,)).fetchone()
    if found is None:
        names = [name for (name,) in session.execute("SELECT name FROM sink ORDER BY id")]
        known = ", ".join(names) or "none yet"
        raise AbsentError(f"the journal knows no sink called {sink}; known sinks: {known}")
    return int(found[0])


def next_offset(session: Session) -> int:
    """Return the offset that the next row will get."""
    return int(session.execute("SELECT next_offset FROM counter").fetchone()[0])


def recall(session: Session, scope: str, key: str) -> Any | None:
    """Return the JSON value kept under a scope and key, or None."""
    found = session.execute(
        "SELECT value FROM memory WHERE scope = ? AND key = ?", (scope, key)
    ).fetchone()
    return None if found is None else orjson.loads(found[0])


def keep(session: Session, scope: str, key: str, value: Any) -> None:
    """Store a JSON value under a scope and key."""
    session.execute(
        "INSERT INTO memory (scope, key, value) VALUES (?, ?, ?) "
        "ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value",
        (scope, key, orjson.dumps(value).decode()),
    )
