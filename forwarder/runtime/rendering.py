"""From a stored page to what one sink sends: normaliser by stream, format by settings."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from forwarder.config import ForwarderSettings, SinkSettings
from forwarder.core.contracts import Format, Render, Rendered
from forwarder.core.model import FORWARDER_STREAM, BatchEvent, StoredPage
from forwarder.core.origin import origin_of
from forwarder.core.own_events import OWN_EVENTS
from forwarder.core.schema import Normaliser


def make_render(sink: SinkSettings, writer: Format, settings: ForwarderSettings) -> Render:
    """Return what turns pages into the events of ``sink``."""
    del sink
    labels = {account.account_id: account.label for account in settings.accounts}
    normalisers = normalisers_of(settings)

    def render(page: StoredPage) -> Rendered:
        account = labels.get(page.account_id, page.account_id)
        origin, normaliser = origin_of(page, account), normalisers[page.stream]
        outcomes, users = normaliser.glance(page.rows)
        events = [
            BatchEvent(
                offset,
                event_id,
                page.stream,
                account,
                time_us,
                page.seen_us,
                outcome,
                user,
                writer.render(normaliser.normalise(row, origin, event_id, time_us)),
            )
            for offset, event_id, time_us, row, outcome, user in zip(
                count(page.first_offset),
                page.hex_ids,
                page.times_us,
                page.rows,
                outcomes,
                users,
                strict=False,
            )
        ]
        return Rendered(events, page.end_offset)

    return render


def normalisers_of(settings: ForwarderSettings) -> Mapping[str, Normaliser]:
    """Return the normaliser of every stream that the journal may hold."""
    found: dict[str, Any] = {FORWARDER_STREAM: OWN_EVENTS}
    for account in settings.accounts:
        found.update(account.plugin.normalisers)
    return found
