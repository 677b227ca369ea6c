"""Batches and contexts for tests of sinks."""

from __future__ import annotations

from collections.abc import Sequence

from forwarder.core.contracts import Batch, BatchEvent, SinkContext
from forwarder.core.identity import Identifier
from forwarder.core.telemetry import Emit, ignore
from forwarder.core.timing import Clock, SystemClock

_FIRST_US = 1_767_225_600_123_456
_SECOND_US = 1_000_000


def make_event(
    offset: int,
    *,
    stream: str = "access_requests",
    account: str = "acme",
    body: bytes | None = None,
) -> BatchEvent:
    """Return the event at ``offset``: the same offset always gives the same id and time.

    Its body is ``{"id": ..., "n": offset}`` unless another one is given.
    """
    # By the real function: a sink may depend on the form of an id.
    identity = Identifier(account, stream).identity({"n": offset}).hex()
    return BatchEvent(
        offset=offset,
        id=identity,
        stream=stream,
        account=account,
        time_us=_FIRST_US + offset * _SECOND_US,
        # Not equal to time_us: a sink that takes one for the other must fail.
        seen_us=_FIRST_US + offset * _SECOND_US + 5 * _SECOND_US,
        outcome="success",
        user="ada@example.com",
        body=b'{"id":"%s","n":%d}' % (identity.encode(), offset) if body is None else body,
    )


def make_batch(count: int = 3, *, first_offset: int = 0, stream: str = "access_requests") -> Batch:
    """Return ``count`` events with consecutive offsets."""
    offsets = range(first_offset, first_offset + count)
    return batch_of([make_event(offset, stream=stream) for offset in offsets])


def batch_of(events: Sequence[BatchEvent]) -> Batch:
    """Return a batch with just these events."""
    return Batch(events=events, size=sum(len(event.body) for event in events))


def sink_context(
    *,
    name: str = "test",
    media_type: str = "application/json",
    clock: Clock | None = None,
    emit: Emit = ignore,
) -> SinkContext:
    """Return what the runtime would give a sink."""
    text = "raw" if media_type == "application/json" else "cef"
    return SinkContext(name, text, media_type, clock or SystemClock(), "forwarder/test", emit)
