"""The identity of a row, which makes two sightings one event and two twins two; JSON of anything.

Identities are unkeyed, so that the same row has the same id on a new volume and in another cluster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import orjson

# A higher version would give every row a new id, and deliver each row in the overlap once more.
VERSION = 1
SIZE = 16
_MOST_SHAPES = 256

Row: TypeAlias = Mapping[str, Any]
Pick: TypeAlias = Callable[[Row], Sequence[Any]]


class Identified(NamedTuple):
    """The identity of each row, its keys (one set a shape), and its length as compact JSON."""

    identities: list[bytes]
    keys: list[frozenset[str]]
    lengths: list[int]


class _Shape(NamedTuple):
    """What rows with the same keys have in common.

    ``pick`` gives the values of a row in the order of its sorted keys, ``begin`` a hash that
    knows everything else. A row's JSON has ``surplus`` bytes more than that of its values alone.
    """

    keys: frozenset[str]
    pick: Pick
    begin: Callable[[], blake2b]
    surplus: int


class Identifier:
    """Makes the identities of one stream of one account."""

    def __init__(self, account_id: str, stream: str) -> None:
        """Remember the part of the text that all rows share."""
        self._name = f"{VERSION}\n{stream}\n{account_id}\n".encode()
        self._shapes: dict[tuple[str, ...], _Shape] = {}

    def identity(self, row: Row, copy: int = 0) -> bytes:
        """Return 16 bytes for the ``copy``-th (from 0) identical row within one response."""
        (shape,), (values,) = self._shaped([row])
        return _hashed(shape.begin(), _text_of(values), copy)

    def identities(self, rows: Iterable[Row]) -> list[bytes]:
        """Return one identity a row of one response, counting true twins."""
        return self.identified(list(rows)).identities

    def identified(self, rows: Sequence[Row]) -> Identified:
        """Return ``identities`` of rows, and what else one learns of them on the way.

        Hashed are the values of a row in the order of its sorted keys, as JSON, so that equal rows
        are equal in any order of their keys. What all rows of a shape share is hashed once.
        """
        shapes, values = self._shaped(rows)
        found, lengths = list[bytes](), list[int]()
        # The option orders the keys of objects inside; ``pick`` orders the outer ones only.
        dump, option = orjson.dumps, orjson.OPT_SORT_KEYS
        for shape, value in zip(shapes, values, strict=True):
            # One text at a time: orjson's bytes keep the 8 kB they were written in, and those of a
            # whole page would take megabytes.
            text = dump(value, None, option)
            made = shape.begin()
            made.update(text)
            found.append(made.digest())
            lengths.append(len(text) + shape.surplus)
        # Twins are rare, so whether there are any is asked of all rows at once.
        if len(set(found)) < len(found):
            found = _numbered(shapes, values, found)
        return Identified(found, [shape.keys for shape in shapes], lengths)

    def _begun(self, keys: bytes) -> blake2b:
        """Return a hash of no values yet; stream, account and keys fill no room of its blocks."""
        name = blake2b(self._name + keys, digest_size=blake2b.PERSON_SIZE).digest()
        # The personalisation is no input, so a row's blocks hold its values only.
        return blake2b(digest_size=SIZE, person=name)

    def _shaped(self, rows: Sequence[Row]) -> tuple[Sequence[_Shape], list[Sequence[Any]]]:
        """Return the shape of each row, and its values in that order; most pages have one shape."""
        if rows:
            first = self._shape_of(tuple(rows[0]))
            if set(map(len, rows)) == {len(first.keys)}:
                with suppress(KeyError):  # as many keys, but others
                    return [first] * len(rows), list(map(first.pick, rows))
        shapes = [self._shape_of(tuple(row)) for row in rows]
        return shapes, [shape.pick(row) for shape, row in zip(shapes, rows, strict=True)]

    def _shape_of(self, keys: tuple[str, ...]) -> _Shape:
        known = self._shapes.get(keys)
        if known is None:
            if len(self._shapes) >= _MOST_SHAPES:
                # Keys that change from row to row must not fill the memory; shapes are made again.
                self._shapes.clear()
            names = sorted(keys)
            text = orjson.dumps(names)
            surplus = len(text) - len("[]") + bool(names)  # quotes, commas, a colon for each key
            begin = self._begun(text).copy
            known = _Shape(frozenset(names), _picker(names), begin, surplus)
            self._shapes[keys] = known
        return known


class NativeIdentifier:
    """Makes the identities of rows that have an id of their own.

    All versions of a row have one identity, and so do its copies in one response. A row without an
    id is identified as ``Identifier`` does it, by all that is in it.
    """

    def __init__(self, account_id: str, stream: str, native: Callable[[Row], str]) -> None:
        """Take what returns a row's own id, empty if it has none."""
        self._rows = Identifier(account_id, stream)
        self._native = native

    def identities(self, rows: Iterable[Row]) -> list[bytes]:
        """Return one identity a row of one response."""
        return self.identified(list(rows)).identities

    def identified(self, rows: Sequence[Row]) -> Identified:
        """Return ``Identifier.identified`` of rows, with the identities of those that have ids."""
        whole = self._rows.identified(rows)
        natives = map(self._native, rows)
        identities = [
            self._rows.identity({"id": native}) if native else identity
            for native, identity in zip(natives, whole.identities, strict=True)
        ]
        return whole._replace(identities=identities)


def _picker(names: Sequence[str]) -> Pick:
    if len(names) > 1:
        return itemgetter(*names)
    # itemgetter of one key gives the value itself, and of none there is no itemgetter.
    return lambda row: [row[name] for name in names]


def _hashed(begun: blake2b, values: bytes, copy: int) -> bytes:
    made = begun.copy()
    # Compact JSON has no line end, so no other row can have the text of a numbered copy.
    made.update(b"%b\n%d" % (values, copy) if copy else values)
    return made.digest()


def _text_of(values: Sequence[Any]) -> bytes:
    return orjson.dumps(values, None, orjson.OPT_SORT_KEYS)


def _numbered(
    shapes: Sequence[_Shape], values: Sequence[Sequence[Any]], first: Iterable[bytes]
) -> list[bytes]:
    """Number the copies of equal rows; ``first`` is what each would be as the first copy."""
    copies: Counter[bytes] = Counter()
    found = []
    for shape, value, identity in zip(shapes, values, first, strict=True):
        copy = copies[identity]
        found.append(_hashed(shape.begin(), _text_of(value), copy) if copy else identity)
        copies[identity] += 1
    return found


TOO_DEEP = "[nested too deeply]"
# orjson stops at 254 levels and at 64 bits; JSON itself has no bounds.
_DEEPEST = 200
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1


def dumps(value: Any) -> bytes:
    """Return ``value`` as compact JSON in UTF-8; never raises.

    Lone surrogates become ``?``, integers beyond 64 bits texts, what lies deeper than 200 levels
    the text ``[nested too deeply]``, and what is not a JSON value its ``str``.
    """
    try:
        text = orjson.dumps(value)
    except TypeError:
        # All that orjson refuses, a lone surrogate too, is a TypeError to it.
        text = orjson.dumps(_tame(value, _DEEPEST))
    # A copy: orjson's own bytes keep the 8 kB they were written in, and a page of rows waits here.
    return b"%b" % text


def members(value: Mapping[str, Any]) -> str:
    """Return the members of a JSON object without the braces around them."""
    return dumps(value)[1:-1].decode() if value else ""


def _tame(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if _SMALLEST <= value <= _LARGEST else str(value)
    if isinstance(value, Mapping | list | tuple) and depth == 0:
        return TOO_DEEP
    if isinstance(value, Mapping):
        return {_text(key): _tame(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tame(item, depth - 1) for item in value]
    return _text(value)


def _text(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode()
