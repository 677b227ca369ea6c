"""The rows of a page, column by column: what goes through thousands of them takes a column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

from forwarder.core.model import Record


@dataclass(frozen=True, eq=False)
class Records(Sequence[Record]):
    """Records, as good as a list of them.

    ``text`` is a compact JSON array of the rows, ``lengths`` says how many bytes each has in it;
    ``times_us``, ``identities`` and ``keys`` are as in ``Record``, one entry a row. ``parsed`` is
    what orjson makes of ``text``, for those who have it at hand.
    """

    text: bytes = field(repr=False)
    lengths: Sequence[int]
    times_us: Sequence[int | None]
    identities: Sequence[bytes]
    keys: Sequence[frozenset[str]]
    parsed: Sequence[Mapping[str, Any]] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, records: Sequence[Record]) -> Records:
        """Return the columns of any records; of those that have them, themselves."""
        if isinstance(records, Records):
            return records
        rows = [record.row for record in records]
        return cls(
            joined(rows),
            list(map(len, rows)),
            [record.time_us for record in records],
            [record.identity for record in records],
            [record.keys for record in records],
        )

    @cached_property
    def rows(self) -> Sequence[bytes]:
        """Return the rows one by one."""
        return list(cut(self.text, self.lengths))

    def part(self, indices: Sequence[int]) -> Records:
        """Return the records at ``indices``, which ascend."""
        if not indices or indices[-1] - indices[0] != len(indices) - 1:
            return Records.of([self[index] for index in indices])
        first, behind = indices[0], indices[-1] + 1
        if behind - first == len(self):
            return self
        lengths = self.lengths[first:behind]
        start = 1 + sum(self.lengths[:first]) + first
        end = start + sum(lengths) + len(lengths) - 1
        return Records(
            b"".join((b"[", memoryview(self.text)[start:end], b"]")),
            lengths,
            self.times_us[first:behind],
            self.identities[first:behind],
            self.keys[first:behind],
            None if self.parsed is None else self.parsed[first:behind],
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.lengths)

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Record]: ...

    def __getitem__(self, place: int | slice) -> Record | Sequence[Record]:
        """Return one record, or a list of some."""
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        return Record(
            self.rows[place], self.times_us[place], self.identities[place], self.keys[place]
        )


def joined(rows: Iterable[bytes]) -> bytes:
    """Return a compact JSON array of JSON values."""
    return b"[" + b",".join(rows) + b"]"


def cut(text: bytes, lengths: Iterable[int]) -> Iterator[bytes]:
    """Give the elements of a compact JSON array, whose lengths are known."""
    begin = 1
    for length in lengths:
        end = begin + length
        yield text[begin:end]
        begin = end + 1
