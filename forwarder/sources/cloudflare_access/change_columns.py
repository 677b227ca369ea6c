"""Reads pages of usual changes column by column: what is asked of a value is asked of all at once.

A page of which any row is not as most rows are is read row by row, which takes longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from operator import add, eq, itemgetter
from types import NoneType
from typing import Any, NamedTuple, TypeAlias

from forwarder.core.login import (
    LONGEST_USER,
    Oddities,
    Origin,
    are_easy,
    are_emails,
    is_email,
    longest,
)
from forwarder.core.schema import Reading
from forwarder.sources.cloudflare_access.change_reading import (
    EMAIL,
    IDENTITY,
    KNOWN_KEYS,
    METHOD,
    METHODS,
    STATUS,
    TEXTS,
    TIME,
    TYPE,
    are_distinct,
    odd_without,
    outcome_of,
    read_bodies,
    read_change,
)

Column: TypeAlias = Sequence[Any]
"""A value of each row, mostly texts."""

_FEWEST = 4
"""Rows that are worth it."""


def read_changes(
    rows: Sequence[Mapping[str, Any]], origin: Origin, times_us: Sequence[int], *, bodies: bool
) -> Iterable[Reading]:
    """Return the reading of each row; see ``core.schema.ReadRows``."""
    usual = len(rows) >= _FEWEST and origin.seen_us not in times_us
    columns = _columns(rows) if usual else None
    readings = columns and _read_usual(columns, origin, bodies=bodies)
    return readings or map(read_change, rows, repeat(origin), times_us, repeat(bodies))


class _Columns(NamedTuple):
    """The values of rows, a column for each text and the method; the bodies; a row's texts."""

    texts: list[Column]
    contents: Column
    together: list[str]


def _columns(rows: Sequence[Mapping[str, Any]]) -> _Columns | None:
    """Return the columns of rows with nothing but texts and nulls, None if there is more."""
    given = _same_keys(rows) or _any_keys(rows)
    if not given:
        return None
    try:
        together = list(map("".join, zip(*given[:-1], strict=True)))
    except TypeError:
        given = [["" if text is None else text for text in column] for column in given]
        try:
            together = list(map("".join, zip(*given[:-1], strict=True)))
        except TypeError:
            return None
    *texts, contents = given
    kinds = {*map(type, contents)}
    if kinds == {str, NoneType}:
        contents = ["" if text is None else text for text in contents]
    return None if kinds - {str, NoneType} else _Columns(texts, contents, together)


def _same_keys(rows: Sequence[Mapping[str, Any]]) -> list[Column] | None:
    """Return a column for each text, method and body, if all rows have the same keys."""
    keys = tuple(rows[0])
    if {*map(len, rows)} != {len(keys)} or len(keys) <= 1 or not _are_usual(keys):
        return None  # of a single key itemgetter gives no tuple
    try:
        values = zip(*map(itemgetter(*keys), rows), strict=True)
    except KeyError:
        return None
    column_of = dict(zip(keys, values, strict=True))
    absent = ("",) * len(rows)
    return [column_of.get(key, absent) for key in _ordered(keys)]


def _any_keys(rows: Sequence[Mapping[str, Any]]) -> list[Column] | None:
    """Return the same for rows with different keys, if all are known."""
    keys = tuple(set[str]().union(*rows))
    if not _are_usual(keys):
        return None
    return [[row.get(key, "") for row in rows] for key in _ordered(keys)]


def _are_usual(keys: Sequence[str]) -> bool:
    """Say whether all keys are known, and one at most is a method's."""
    return KNOWN_KEYS.issuperset(keys) and not set(METHODS).issubset(keys)


def _ordered(keys: Sequence[str]) -> tuple[str, ...]:
    method = METHODS[1] if METHODS[1] in keys else METHODS[0]
    return (*TEXTS[:-1], method, TEXTS[-1])


def _read_usual(columns: _Columns, origin: Origin, *, bodies: bool) -> Iterable[Reading] | None:
    """Return the readings of rows whose values are what their keys promise."""
    texts, contents, together = columns
    emails, identities = texts[EMAIL], texts[IDENTITY]
    if (
        not are_easy(together, plain=origin.plain)
        or longest(emails) > LONGEST_USER
        or not all(texts[TIME])
    ):
        return None
    asked = list(zip(texts[TYPE], texts[METHOD], contents, strict=True))
    distinct = list(dict.fromkeys(asked))
    body_of = dict(zip(distinct, read_bodies(distinct), strict=True))
    said: Iterator[Sequence[Any]] = zip(*map(body_of.__getitem__, asked), strict=True)
    resources, activities, texts[METHOD], named, members, escaped, sizes, easy, _ = said
    if (
        not all(easy)
        or any(map(eq, emails, identities))
        or (any(members) and not all(map(are_distinct, emails, identities, members)))
    ):
        return None
    if not bodies:
        escaped, sizes = [""] * len(asked), ["0"] * len(asked)
        members = [ids[: len(ids) // 2] + ("",) * (len(ids) // 2) for ids in members]
        named = [(False,) * len(names) for names in named]
    outcomes = {status: outcome_of(status) for status in {*texts[STATUS]}}
    shapes = zip(
        resources,
        activities,
        map(outcomes.__getitem__, texts[STATUS]),
        texts[METHOD],
        [True] * len(asked)
        if are_emails(emails)
        else [is_email(one) is not None for one in emails],
        named,
        [odd[content != ""] for odd, content in zip(_odds(texts), escaped, strict=True)],
        strict=True,
    )
    fillings: Iterable[tuple[str, ...]] = zip(*texts, escaped, sizes, strict=True)
    if any(members):
        fillings = map(add, fillings, members)
    return zip(shapes, fillings, repeat(""), strict=False)


def _odds(texts: list[Column]) -> Iterable[tuple[Oddities, Oddities]]:
    """Return what is odd about each row; see ``odd_without``."""
    present = [(all(column), any(column)) for column in texts]
    if all(every == some for every, some in present):
        return repeat(odd_without(tuple(every for every, _ in present)), len(texts[0]))
    return map(odd_without, zip(*[map(bool, column) for column in texts], strict=True))
