"""Reads pages of usual logins column by column: what is asked of a value is asked of all at once.

A page of which any row is not as most rows are is read row by row, which takes longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, TypeAlias

from forwarder.core.login import LOGIN_TEXTS, LONGEST_USER, Origin, are_easy, are_emails, longest
from forwarder.core.schema import Reading
from forwarder.sources.cloudflare_access.login_reading import (
    ACTION,
    COMPLETE,
    CONNECTION,
    COUNTRY,
    DOCUMENTED,
    DOCUMENTED_COUNT,
    DOMAIN,
    IP,
    KEY_COUNT,
    NOT_DOCUMENTED,
    USER,
    documented_of,
    read_login,
    texts_of,
)
from forwarder.sources.cloudflare_access.normalise_login_values import (
    COUNTRIES,
    are_addresses,
    user_kind,
)

Texts: TypeAlias = tuple[str, ...]

_FEWEST = 4
"""Rows that are worth it."""
_allowed_of = itemgetter("allowed")


def read_logins(
    rows: Sequence[Mapping[str, Any]],
    origin: Origin,
    times_us: Sequence[int],
    *,
    bodies: bool,  # noqa: ARG001 - logins have none
) -> Iterable[Reading]:
    """Return the reading of each row; see ``core.schema.ReadRows``."""
    readings = _read_usual(rows, origin, times_us) if len(rows) >= _FEWEST else None
    return map(read_login, rows, repeat(origin), times_us) if readings is None else readings


def _read_usual(
    rows: Sequence[Mapping[str, Any]], origin: Origin, times_us: Sequence[int]
) -> Iterable[Reading] | None:
    """Return the readings if each row has what is documented, or all that is known, and is usual.

    None does not say that anything is wrong with the rows.
    """
    counts = {*map(len, rows)}
    if counts not in ({KEY_COUNT}, {DOCUMENTED_COUNT}):
        return None
    whole = counts == {KEY_COUNT}
    try:
        given: list[Texts] = list(map(texts_of if whole else documented_of, rows))
        allowed = list(map(_allowed_of, rows))
        together = list(map("".join, given))
    except (KeyError, TypeError):
        return None
    columns = list(zip(*given, strict=True))
    if (
        {*map(type, allowed)} != {bool}
        or not all(map(all, columns))
        or not (origin.plain or origin.seen_us not in times_us)
        or not are_easy(together, plain=origin.plain)
        or not are_addresses(columns[IP])
        or (whole and not COUNTRIES.issuperset(columns[COUNTRY]))
    ):
        return None
    emails = columns[USER]
    kinds = ["email"] * len(rows) if are_emails(emails) else list(map(user_kind, emails))
    texts = _with_paths(
        given if whole else [row + NOT_DOCUMENTED for row in given], columns[DOMAIN]
    )
    if texts is None or longest(emails) > LONGEST_USER:
        return None
    sizes, odd = list(map(len, texts)), COMPLETE.odd if whole else DOCUMENTED.odd
    shapes = zip(
        allowed,
        columns[ACTION],
        columns[CONNECTION],
        [6 if ":" in ip else 4 for ip in columns[IP]],
        kinds,
        sizes,
        repeat(None) if whole else [odd[size > len(LOGIN_TEXTS)] for size in sizes],
        strict=False,
    )
    return zip(shapes, texts, repeat(""), strict=False)


def _with_paths(texts: list[Texts], domains: Sequence[str]) -> list[Texts] | None:
    """Return the texts with host and path where a domain has both; None if one is odd."""
    if "/" not in "".join(domains):
        return texts
    found = []
    for row, domain in zip(texts, domains, strict=True):
        if "/" in domain:
            host, _, path = domain.partition("/")
            if not host or not path or path[0] == "/":
                return None
            found.append((*row, host, path))
        else:
            found.append(row)
    return found
