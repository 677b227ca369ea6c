"""Events as Parquet: explicit columns, and a column of texts for what they lack.

Nothing is left out in silence: a value without a column, or of another type than its column,
goes to ``unmapped`` under its path.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from io import BytesIO
from typing import Any

import orjson
from arro3.core import DataType, Field, RecordBatch, Schema, Table
from arro3.io import read_json, write_parquet

from forwarder.core.contracts import BatchEvent
from forwarder.sinks.object_store.ocsf_columns import EVERY, LONG, OF_CLASS, SHARED, TEXTS, Columns

_REST = "unmapped"
_PLAIN: Columns = {"id": str, "outcome": str, "user": str, "event": str}


class Rows:
    """Collects lines, and makes one Parquet file of them.

    ``kind`` is the class of OCSF that all of them have, or 0.
    """

    def __init__(self, kind: int, *, ocsf: bool) -> None:
        """Take lines of ``line_of``, or with ``ocsf`` of the two others."""
        self._schema = _ocsf_schema(kind) if ocsf else _plain_schema()
        self._batches: list[RecordBatch] = []

    def compress(self, lines: bytes, /) -> int:
        """Take whole lines. As columns they need less memory than as text."""
        self._batches += read_json(BytesIO(lines), self._schema)
        return len(lines)

    def finish(self) -> bytes:
        """Return the file."""
        target = BytesIO()
        write_parquet(
            Table.from_batches(self._batches, schema=self._schema),
            target,
            compression="zstd(3)",
            # A limit of Security Lake, and what readers are tuned for.
            data_page_size_limit=2**20,
        )
        return target.getvalue()


def line_of(event: BatchEvent) -> tuple[int, bytes]:
    """Return 0 and the line of an event in any format: what is known of it, and its body."""
    row = {
        "time": event.time_us,
        "seen": event.seen_us,
        "id": event.id,
        "outcome": event.outcome,
        "user": event.user,
        "event": event.body.decode("utf-8", "replace"),
    }
    return 0, orjson.dumps(row)


def mixed_line_of(event: BatchEvent) -> tuple[int, bytes]:
    """Return 0 and the line of an OCSF event, for objects that hold several classes."""
    return 0, ocsf_line_of(event)[1]


def ocsf_line_of(event: BatchEvent) -> tuple[int, bytes]:
    """Return the class of an OCSF event, and its line for ``Rows``.

    Raises ``ValueError`` for a body that is not a JSON object.
    """
    given = orjson.loads(event.body)
    if not isinstance(given, dict):
        raise ValueError("a JSON object is needed")  # noqa: TRY004 - as for what is not JSON
    kind = given.get("class_uid")
    known = kind if isinstance(kind, int) else 0
    fit(given, columns_of(known))
    return known, orjson.dumps(given)


@cache
def columns_of(kind: int) -> Columns:
    """Return the columns of a class; of an unknown one those that all classes have."""
    return {**SHARED, **OF_CLASS.get(kind, {})}


def fit(event: dict[str, Any], columns: Columns) -> None:
    """Make ``event`` fit its columns: what they do not take becomes text in ``unmapped``."""
    rest: dict[str, Any] = {}
    _fit(event, columns, "", rest)
    if rest:
        event[_REST] = _texts(rest, event.get(_REST, {}))


def _fit(group: dict[str, Any], columns: Columns, path: str, rest: dict[str, Any]) -> None:
    """Move what does not fit into ``rest``, under its path."""
    odd = []
    for name, value in group.items():
        column = columns.get(name)
        kind = type(value)
        # Most values are texts, so they are judged first.
        if kind is column and kind is not int:
            continue
        if kind is dict and type(column) is dict:
            _fit(value, column, f"{path}{name}.", rest)
        elif kind is dict and column == TEXTS:
            group[name] = _texts(value, {})
        elif not _fits(value, column):
            odd.append(name)
    for name in odd:
        rest[path + name] = group.pop(name)


def _texts(values: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, str]:
    """Return ``known`` and ``values`` as texts by name; what is not a text is written as JSON."""
    found = dict(known)
    for name, value in values.items():
        free = name
        while free in found:
            free += "_"
        found[free] = value if type(value) is str else orjson.dumps(value).decode()
    return found


def _fits(value: Any, column: Any) -> bool:
    """Return True if nothing of ``value`` is lost in ``column``."""
    kind = type(value)
    if kind is int:
        # How far its numbers go from zero; columns of other types take none.
        end = 2**31 if column is int else 2**63 if column == LONG else 0
        return bool(-end <= value < end)
    if kind is list and type(column) is list:
        return _all_fit([(item, column[0]) for item in value])
    if kind is dict and type(column) is dict:
        return _all_fit([(item, column.get(name)) for name, item in value.items()])
    return kind is column


def _all_fit(pairs: list[tuple[Any, Any]]) -> bool:
    for value, column in pairs:
        if (type(value) is not column or column is int) and not _fits(value, column):
            return False
    return True


@cache
def _plain_schema() -> Schema:
    moment = DataType.timestamp("us", tz="UTC")
    times = [Field("time", moment, nullable=False), Field("seen", moment, nullable=False)]
    return Schema([*times, *_fields(_PLAIN)])


@cache
def _ocsf_schema(kind: int) -> Schema:
    return Schema(_fields(columns_of(kind) if kind else EVERY))


def _fields(columns: Columns) -> list[Field]:
    return [Field(name, _type(column)) for name, column in columns.items()]


def _type(column: Any) -> DataType:
    if isinstance(column, dict):
        return DataType.struct(_fields(column))
    if isinstance(column, list):
        return DataType.list(Field("element", _type(column[0])))
    if column == TEXTS:
        entry = Field("key", DataType.string(), nullable=False), Field("value", DataType.string())
        return DataType.map(*entry, keys_sorted=False)
    return {
        str: DataType.string(),
        int: DataType.int32(),
        LONG: DataType.int64(),
        bool: DataType.bool(),
    }[column]
