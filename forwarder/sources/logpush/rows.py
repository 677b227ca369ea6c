"""Rows of Logpush's datasets: from lines to records. Pure.

Which key is a row's time, and what makes two rows one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import is_
from typing import Any, NamedTuple

import orjson

from forwarder.core.identity import Identifier, dumps
from forwarder.core.malformed_rows import malformed_row, repair_row, rewritten
from forwarder.core.masking import mask_nested
from forwarder.core.source_contract import Records
from forwarder.core.source_contract import joined as array_of
from forwarder.core.timing import moment_us
from forwarder.sources.logpush.body import Body, Overlong
from forwarder.sources.logpush.mapping import mask_activity

_TIMES = (
    "Datetime",
    "Timestamp",
    "EdgeStartTimestamp",
    "CreatedAt",
    "ActionTimestamp",
    "SessionEndTime",
    "DetectedTimestamp",
    "EventTimestampMs",
    "When",
)
"""Names of the time in Cloudflare's datasets, the most usual ones first."""

Row = Mapping[str, Any]


class Native(NamedTuple):
    """What makes two rows of a dataset the same row: equal values of ``keys``.

    With ``whole`` all other values must be equal, too: the keys are there, but not unique.
    """

    keys: tuple[str, ...]
    whole: bool = False


NATIVE: Mapping[str, Native] = {
    "audit_logs": Native(("ID",)),
    "audit_logs_v2": Native(("AuditLogID",)),
    # Subrequests of a Worker share the ray of their request.
    "http_requests": Native(("RayID",), whole=True),
    "zero_trust_network_sessions": Native(("SessionID", "SessionEndTime")),
}
"""Datasets whose rows have an id of their own; of all others a row is known by its hash alone."""


class Read(NamedTuple):
    """Rows of some lines.

    ``twins`` are the indices of rows that only a hash tells apart, ``malformed`` counts rows that
    could not be read as they came, ``cut`` those that were too long.
    """

    records: Records
    twins: frozenset[int]
    malformed: int
    cut: int


class RowReader:
    """Reads the rows of one dataset of one account."""

    def __init__(self, account_id: str, stream: str, dataset: str) -> None:
        """Remember what all rows share."""
        self._identifier = Identifier(account_id, stream)
        self._native = NATIVE.get(dataset)
        self._mask = mask_activity if dataset == "audit_logs_v2" else mask_nested

    def read(self, lines: Sequence[bytes | Overlong]) -> Read:
        """Return the rows of some lines of one body."""
        rows, malformed, text = _rows_of(lines)
        cut = sum(isinstance(line, Overlong) for line in lines)
        return Read(*self._records(rows, text), malformed, cut)

    def given_up(self, why: str, body: Body) -> Records:
        """Return the one malformed row that stands for a body nobody can read."""
        row = malformed_row(why, body.beginning)
        about = {"bytes": body.size, "sha256": body.fingerprint}
        return self._records([{**row, **about}], b"")[0]

    def _records(self, rows: Sequence[Row], text: bytes) -> tuple[Records, frozenset[int]]:
        """Return records and twins; ``text`` is the JSON of the rows, or empty."""
        identified = self._identifier.identified(rows)
        identities, twins = identified.identities, frozenset(range(len(rows)))
        if self._native is not None:
            named = [self._identity(self._native, row) for row in rows]
            twins = frozenset(index for index, one in enumerate(named) if one is None)
            identities = [a or b for a, b in zip(named, identities, strict=True)]
        # After the identities: a mask that learns a new word must not give old rows new ids.
        masked = list(map(self._mask, rows))
        lengths = identified.lengths
        if not text or not all(map(is_, masked, rows)):
            parts = list(map(dumps, masked))
            text, lengths = array_of(parts), list(map(len, parts))
        times = list(map(time_us_of, rows))
        return Records(text, lengths, times, identities, identified.keys, masked), twins

    def _identity(self, native: Native, row: Row) -> bytes | None:
        """Return the identity that a row's own id gives it, None if it has none."""
        if not all(row.get(key) for key in native.keys):
            return None
        if native.whole:
            return self._identifier.identity(row)
        return self._identifier.identity({key: row[key] for key in native.keys})


def joined(reads: Sequence[Read]) -> Read:
    """Return several reads of one body as one."""
    if len(reads) == 1:
        return reads[0]
    records = [read.records for read in reads]
    twins, first = set[int](), 0
    for read in reads:
        twins.update(index + first for index in read.twins)
        first += len(read.records)
    return Read(
        Records(
            array_of(one.text[1:-1] for one in records if len(one)),
            [length for one in records for length in one.lengths],
            [time for one in records for time in one.times_us],
            [identity for one in records for identity in one.identities],
            [keys for one in records for keys in one.keys],
            [row for one in records for row in one.parsed or ()],
        ),
        frozenset(twins),
        sum(read.malformed for read in reads),
        sum(read.cut for read in reads),
    )


def _rows_of(lines: Sequence[bytes | Overlong]) -> tuple[list[dict[str, Any]], int, bytes]:
    """Return a row for each line, how many are malformed, and the JSON of them all if at hand."""
    try:
        rows = [orjson.loads(line) for line in lines]  # type: ignore[arg-type]
    except (orjson.JSONDecodeError, TypeError):
        return _leniently(lines)
    if set(map(type, rows)) - {dict}:
        return _leniently(lines)
    body = b'{"result":[' + b",".join(lines) + b"]}"  # type: ignore[arg-type]
    # Digits beyond 64 bits and keys that stand twice would be changed silently.
    text = rewritten({"result": rows}, body)
    return _leniently(lines) if text is None else (rows, 0, text)


def _leniently(lines: Sequence[bytes | Overlong]) -> tuple[list[dict[str, Any]], int, bytes]:
    read = [
        ({**malformed_row("the row is too long", line.beginning), "bytes": line.length}, False)
        if isinstance(line, Overlong)
        else repair_row(line)
        for line in lines
    ]
    return [row for row, _ in read], sum(not clean for _, clean in read), b""


def time_us_of(row: Row) -> int | None:
    """Return a row's own time, in any of the formats that a job may ask for."""
    for key in _TIMES:
        if key in row:
            return moment_us(row[key])
    return None
