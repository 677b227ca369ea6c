"""Rows that came to have more keys, and the identities they were stored under before.

When Cloudflare adds a field to all rows, a row that is read again looks new. It is recognised
by its identity under the key set that rows had before.
"""

from __future__ import annotations

from collections.abc import Sequence

from forwarder.core.log import KeySet
from forwarder.core.model import Page
from forwarder.core.records import Records


def unknown_keys(page: Page, known: Sequence[KeySet]) -> list[frozenset[str]]:
    """Return the key sets of the page's rows that are not remembered yet."""
    remembered = {key_set.keys for key_set in known}
    return sorted(set(Records.of(page.records).keys) - remembered, key=sorted)


def aliases(page: Page, known: Sequence[KeySet]) -> dict[int, list[bytes]]:
    """Return, by record index, identities that the row may have been stored under.

    Only rows can be meant that are no newer than the stream was when their own key set first
    appeared, and only under key sets that are smaller and appeared earlier. In steady state that
    is no row at all.
    """
    earlier = {keys: _earlier(keys, known) for keys in set(Records.of(page.records).keys)}
    if not any(earlier.values()):
        return {}
    horizon = {key_set.keys: key_set.horizon_us for key_set in known}
    found: dict[int, list[bytes]] = {}
    for index, record in enumerate(page.records):
        smaller = earlier[record.keys]
        if smaller and _may_be_old(record.time_us, horizon.get(record.keys)):
            found[index] = [page.project(index, keys) for keys in smaller]
    return found


def _earlier(keys: frozenset[str], known: Sequence[KeySet]) -> list[frozenset[str]]:
    """Return the smaller key sets that were known before ``keys`` appeared."""
    own = next((key_set.offset for key_set in known if key_set.keys == keys), None)
    return [
        other.keys for other in known if other.keys < keys and (own is None or other.offset < own)
    ]


def _may_be_old(time_us: int | None, horizon_us: int | None) -> bool:
    return horizon_us is None or time_us is None or time_us <= horizon_us
