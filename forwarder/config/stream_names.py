"""Streams that a sink's filter names and no source has: a slip that would silence the sink."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from forwarder.config.document import Document
from forwarder.config.models import AccountSettings, SinkSettings
from forwarder.config.validation import unknown
from forwarder.core.errors import Fault
from forwarder.core.model import FORWARDER_STREAM


def check_streams(
    accounts: Sequence[AccountSettings], sinks: Sequence[SinkSettings], document: Document
) -> list[Fault]:
    """Return a fault for each such name; none when a source does not tell its streams."""
    known = _streams(accounts)
    faults: list[Fault] = []
    for sink in sinks if known else ():
        chosen = {"only": sink.options.only, "except": sink.options.except_}
        for key, filter_ in chosen.items():
            for name in filter_.stream if filter_ else ():
                if name not in known:
                    place = ("sinks", sink.name, key, "stream")
                    faults.append(document.fault(place, *unknown("stream", name, sorted(known))))
    return faults


def _streams(accounts: Sequence[AccountSettings]) -> Collection[str]:
    told = [getattr(account.plugin, "normalisers", {}) for account in accounts]
    return {FORWARDER_STREAM}.union(*told) if all(told) else ()
