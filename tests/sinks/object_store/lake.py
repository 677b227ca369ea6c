"""Reads what the sink has written, with readers that are not ours."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import cramjam
import duckdb
import orjson
from arro3.io import read_parquet, write_ndjson


def unpacked(name: str, body: bytes) -> bytes:
    """Return the lines of an object that holds lines."""
    if name.endswith(".gz"):
        return gzip.decompress(body)
    return bytes(cramjam.zstd.decompress(body)) if name.endswith(".zst") else body


def ids_in(name: str, body: bytes) -> list[str]:
    """Return the ids of the events in an object of the format ``raw`` or of ``make_event``."""
    if name.endswith(".parquet"):
        return [row["id"] for row in rows_of(body)]
    return [orjson.loads(line)["id"] for line in unpacked(name, body).splitlines()]


def rows_of(body: bytes) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file as arrow-rs reads them, without empty columns."""
    lines = io.BytesIO()
    write_ndjson(read_parquet(io.BytesIO(body)), lines)
    return [orjson.loads(line) for line in lines.getvalue().splitlines()]


def query(text: str, folder: Path) -> list[tuple[Any, ...]]:
    """Return what DuckDB answers; ``{folder}`` in ``text`` is where the objects are."""
    with duckdb.connect() as connection:
        return connection.sql(text.replace("{folder}", str(folder))).fetchall()
