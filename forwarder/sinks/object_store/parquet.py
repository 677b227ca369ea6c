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
from arro3.core import DataType, Field, Schema
from arro3.io import read_json, write_parquet

from forwarder.core.contracts import BatchEvent
from forwarder.sinks.object_store.ocsf_columns import EVERY, LONG, OF_CLASS, SHARED, TEXTS, Columns

_REST = "unmapped"
_PLAIN: Columns = {"id": str, "outcome": str, "user": str, "event": str}
_SMALLEST, _LARGEST = -(2**31), 2**31 - 1
# Rows that are converted at once: few, so that little memory is needed.
_ROWS = 4096


class Rows:
    """Collects lines, and makes one Parquet file of them.

    ``kind`` is the class of OCSF that all of them have, or 0.
    """

    def __init__(self, kind: int, *, ocsf: bool) -> None:
        """Take lines of ``line_of``, or with ``ocsf`` of the two others."""
        self._lines = BytesIO()
        self._schema = _ocsf_schema(kind) if ocsf else _plain_schema()

    def compress(self, data: bytes, /) -> int:
        """Take more lines."""
        return self._lines.write(data)

    def finish(self) -> bytes:
        """Return the file."""
        self._lines.seek(0)
        target = BytesIO()
        write_parquet(
            read_json(self._lines, self._schema, batch_size=_ROWS),
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

    Raises ``ValueError`` for a body that is no JSON object.
    """
    given = orjson.loads(event.body)
    if not isinstance(given, dict):
        raise ValueError("a JSON object is needed")  # noqa: TRY004 - as for what is no JSON
    kind = given.get("class_uid")
    known = kind if isinstance(kind, int) else 0
    return known, orjson.dumps(fitted(given, columns_of(known)))


@cache
def columns_of(kind: int) -> Columns:
    """Return the columns of a class; of an unknown one those that all classes have."""
    return {**SHARED, **OF_CLASS.get(kind, {})}


def fitted(given: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """Return ``given`` as its columns take it; what they do not take is text in ``unmapped``."""
    rest: dict[str, Any] = {}
    known = _group(given, columns, "", rest)
    if rest:
        known[_REST] = _texts(rest, known.get(_REST, {}))
    return known


def _group(
    given: Mapping[str, Any], columns: Columns, path: str, rest: dict[str, Any]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        column = columns.get(name)
        if column == TEXTS and type(value) is dict:
            found[name] = _texts(value, {})
        elif type(column) is dict and type(value) is dict:
            found[name] = _group(value, column, f"{path}{name}.", rest)
        elif _fits(value, column):
            found[name] = value
        else:
            rest[path + name] = value
    return found


def _texts(values: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, str]:
    """Return ``known`` and ``values`` as texts by name; what is no text is written as JSON."""
    found = dict(known)
    for name, value in values.items():
        free = name
        while free in found:
            free += "_"
        found[free] = value if type(value) is str else orjson.dumps(value).decode()
    return found


def _fits(value: Any, column: Any) -> bool:
    """Return True if nothing of ``value`` is lost in ``column``."""
    if column is int:
        return type(value) is int and _SMALLEST <= value <= _LARGEST
    if column == LONG:
        # JSON has no larger numbers here: the format writes 64 bits at most.
        return type(value) is int and -(2**63) <= value < 2**63
    if type(column) is list and type(value) is list:
        return all(_fits(item, column[0]) for item in value)
    if type(column) is dict and type(value) is dict:
        return all(_fits(item, column.get(name)) for name, item in value.items())
    return column is type(value)


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
