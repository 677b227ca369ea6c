"""Rows that could not be rendered: they travel among the events, and no sink sees them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

from forwarder.core.contracts import BatchEvent, Rejection, Rendered, StoredPage, WriteResult

_OFFSET = attrgetter("offset")


def with_failed(rendered: Rendered, page: StoredPage) -> Sequence[BatchEvent]:
    """Return the page's events in offset order, with an empty one for each row that failed."""
    if not rendered.failed:
        return rendered.events
    empty = (_empty(page, one.offset) for one in rendered.failed)
    return sorted((*rendered.events, *empty), key=_OFFSET)


def _empty(page: StoredPage, offset: int) -> BatchEvent:
    at = offset - page.first_offset
    return BatchEvent(
        offset=offset,
        id=page.hex_ids[at],
        stream=page.stream,
        account=page.account_id,
        time_us=page.times_us[at],
        seen_us=page.seen_us,
        outcome="unknown",
        user="",
        body=b"",
    )


def sendable(events: Sequence[BatchEvent], failed: Collection[int]) -> Sequence[BatchEvent]:
    """Return the events that the sink may see; ``failed`` has the offsets of the others."""
    return [event for event in events if event.offset not in failed] if failed else events


def with_refusals(
    result: WriteResult, events: Sequence[BatchEvent], failed: Mapping[int, str]
) -> WriteResult:
    """Return the sink's answer as if it had refused those of ``events`` that failed, and why."""
    refused = [Rejection(e.offset, failed[e.offset]) for e in events if e.offset in failed]
    return replace(result, rejected=(*result.rejected, *refused)) if refused else result
