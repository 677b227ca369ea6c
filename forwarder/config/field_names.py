"""Paths in a sink's settings that no event can have: most likely a slip of the pen.

Warnings, not faults: rows may get keys that nobody knows today.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

from forwarder.config.models import AccountSettings, SinkSettings
from forwarder.core.own_events import OWN_EVENTS


def unknown_paths(
    accounts: Sequence[AccountSettings], sinks: Sequence[SinkSettings]
) -> Iterator[str]:
    """Yield a warning for each such path in ``drop_fields``, ``hash_fields`` and ``add_fields``.

    Nothing is said about rows of a source that does not tell its keys, nor about fields added in
    a format that takes any.
    """
    keys = _row_keys(accounts)
    for sink in sinks:
        yield from _unknown_keys(sink, keys)
        nearest_path: Any = getattr(sink.format_plugin, "nearest_path", None)
        for path in sink.options.add_fields if nearest_path else ():
            if (nearest := nearest_path(path)) != path:
                yield (
                    f"sinks.{sink.name}.add_fields: no event in {sink.format} can have {path!r};"
                    f" the nearest that is allowed is {nearest!r}"
                )


def _unknown_keys(sink: SinkSettings, keys: Collection[str]) -> Iterator[str]:
    for setting in ("drop_fields", "hash_fields") if keys else ():
        for path in getattr(sink.options, setting):
            if path not in keys:
                yield (
                    f"sinks.{sink.name}.{setting}: no row that is known has {path!r}, so nothing is"
                    f" hidden by it; the nearest key of a row is {nearest_key(path, keys)!r}"
                )


def _row_keys(accounts: Sequence[AccountSettings]) -> frozenset[str]:
    """Return the keys that rows may have; none if a source does not tell."""
    known = [
        normaliser.keys
        for account in accounts
        for normaliser in getattr(account.plugin, "normalisers", {}).values()
    ]
    return OWN_EVENTS.keys.union(*known) if known and all(known) else frozenset()


def nearest_key(path: str, keys: Collection[str]) -> str:
    """Return the key that has most words of ``path``, and of those the one spelled most alike."""
    spelled = path.replace(".", "_")
    words = set(spelled.split("_"))

    def likeness(key: str) -> tuple[int, float]:
        return len(words & set(key.split("_"))), SequenceMatcher(None, spelled, key).ratio()

    return max(sorted(keys), key=likeness)
