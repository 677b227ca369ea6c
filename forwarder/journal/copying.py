"""Copies a stopped journal into an empty one, of the same engine or of another.

The target is filled in one transaction. Only after its commit the source is set aside, so an
attempt that was killed is repeated: it finds an empty target, or one that equals the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, TypeAlias

from forwarder.core.errors import StateError
from forwarder.journal.retention import stored_rows
from forwarder.journal.storage import (
    Engine,
    PageRow,
    Session,
    next_offset,
    unpack_body,
)

Contents: TypeAlias = dict[str, tuple[int, str]]
"""The number of rows of each table, and a digest of them."""


class Table(NamedTuple):
    """A table's columns, those of its key first, and how many of them are its key."""

    name: str
    key: int
    columns: tuple[str, ...]


def _table(name: str, key: int, columns: str) -> Table:
    return Table(name, key, tuple(columns.split()))


PAGE = _table(
    "page",
    1,
    "first_offset count stream lane seen_us timeless tmin_us tmax_us size crc times hashes body",
)
TABLES = (
    _table("counter", 1, "id next_offset"),
    _table("stream", 1, "id account_id name"),
    _table("lane", 1, "id name kind pages_of from_offset end_offset state partial spec created_us"),
    PAGE,
    _table("reader", 2, "stream name covered_until_us since_us until_us position rows reached_us"),
    _table("key_set", 2, "stream keys horizon_us first_offset"),
    _table("sink", 1, "id name created_us"),
    _table("progress", 2, "sink lane prefix ranges"),
    _table("passed_over", 3, "sink lane from_offset end_offset reason"),
    _table(
        "dead_letter",
        1,
        "id sink stream row_offset lane at_us seen_us time_us timeless size reason identity row",
    ),
    _table("gap", 1, "id scope reason since_us until_us rows detail opened_us closed_us"),
    _table("memory", 2, "scope key value"),
)
# What a page's checksums cover is compared by them, and its body by its length.
_COMPARED_PAGE = Table("page", 1, (*PAGE.columns[:10], "length(body)"))
_PORTION = 100
"""Rows in memory at a time: a page has about 100 kB."""


class Stopped(Protocol):
    """A journal on which nobody works but this process, in a transaction that has just begun."""

    @property
    def name(self) -> str:
        """Return what people call it: a file, or a schema."""
        ...

    @property
    def engine(self) -> Engine:
        """Return what keeps it."""
        ...

    @property
    def session(self) -> Session:
        """Return its open transaction."""
        ...

    def stay(self) -> None:
        """Keep others out for longer; called now and then. Raises ``StateError`` if it is late."""
        ...

    def settle(self) -> None:
        """Let new ids begin after those that were written, and commit."""
        ...

    def put_aside(self, at: str) -> str:
        """Let nobody continue with this journal, and return where it is from now on."""
        ...


class Copied(NamedTuple):
    """What a copy has: pages and rows, and where the source is now."""

    pages: int
    rows: int
    aside: str


def copy(source: Stopped, target: Stopped, at: str) -> Copied:
    """Copy a journal whole, with its offsets and ids; ``at`` is the time for its name aside.

    Raises ``StateError`` if the target is not empty, ``DamagedError`` if the source is damaged,
    and what the engines raise; then the source is as it was, and so is the target.
    """
    found = contents(source)
    if (there := contents(target)) != found:
        if not _is_empty(target, there):
            raise StateError(
                f"{target.name} is not empty: a journal is copied into an empty one only. Name "
                "another one in the settings of --to"
            )
        _fill(target, source)
        if contents(target) != found:
            raise StateError(f"the copy in {target.name} was not equal to {source.name}; undone")
        with target.engine.translated():
            target.settle()
    rows = stored_rows(source.session)
    return Copied(found["page"][0], rows, source.put_aside(at))


def contents(journal: Stopped) -> Contents:
    """Return what is in each table, to compare two journals of any engine."""
    found = {}
    for table in TABLES:
        digest, count = blake2b(digest_size=16), 0
        for rows in _portions(journal, _COMPARED_PAGE if table is PAGE else table):
            count += len(rows)
            digest.update(repr(rows).encode())
        found[table.name] = (count, digest.hexdigest())
    return found


def _is_empty(journal: Stopped, found: Contents) -> bool:
    """Return True if nothing was ever stored: the counter and the live lane are always there."""
    with journal.engine.translated():
        return sum(count for count, _ in found.values()) == 2 and next_offset(journal.session) == 1  # noqa: PLR2004 - these two


def _fill(target: Stopped, source: Stopped) -> None:
    with target.engine.translated():
        # Both have first values, and the source has its own.
        target.session.execute("DELETE FROM counter")
        target.session.execute("DELETE FROM lane")
    for table in TABLES:
        marks = ", ".join("?" * len(table.columns))
        insert = f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})"
        for rows in _portions(source, table):
            if table is PAGE:
                _verify(source, rows)
            with target.engine.translated():
                for row in rows:
                    target.session.execute(insert, row)
            source.stay()
            target.stay()


def _verify(journal: Stopped, pages: list[tuple[Any, ...]]) -> None:
    """Raise ``DamagedError`` if a page is not what was stored: the copy would hide that."""
    with journal.engine.translated():
        for page in pages:
            # The size is in no checksum: it becomes 0 when the body goes.
            row = PageRow("", "", *page[:8], *page[9:])
            row.verify()
            if row.body is not None:
                unpack_body(row.body, row.first_offset)


def _portions(journal: Stopped, table: Table) -> Iterator[list[tuple[Any, ...]]]:
    """Give the rows in the order of the key, some at a time."""
    key, columns = ", ".join(table.columns[: table.key]), ", ".join(table.columns)
    marks = ", ".join("?" * table.key)
    behind, last = "", ()
    while True:
        with journal.engine.translated():
            rows = [
                tuple(map(_storable, row))
                for row in journal.session.execute(
                    f"SELECT {columns} FROM {table.name} {behind} ORDER BY {key} LIMIT {_PORTION}",
                    last,
                ).fetchall()
            ]
        if not rows:
            return
        yield rows
        behind, last = f"WHERE ({key}) > ({marks})", rows[-1][: table.key]


def _storable(value: Any) -> Any:
    """Return a value as every engine stores it: PostgreSQL has no NUL in texts."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value
