"""What a sink's test provides for the contract suites, and the engine's steps with a sink.

A destination is the other side of a sink: an HTTP one is a ``FakeServer`` with ``sink`` and
``arrived``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

import pytest

from forwarder.core.contracts import Batch, Sink, WriteResult
from forwarder.core.errors import ForwarderError, TransientError


class Destination(Protocol):
    """The other side of a sink, healthy and empty."""

    def sink(self) -> Sink:
        """Make a new sink for this destination."""
        ...

    def arrived(self) -> Mapping[str, int]:
        """Return how often each event id is there; ``make_batch`` puts the id into every body."""
        ...


class FaultyDestination(Destination, Protocol):
    """A destination that can fail in the ways real ones do."""

    secrets: Sequence[str]

    def requests(self) -> int:
        """Return the number of attempts to deliver events."""
        ...

    async def go_down(self) -> None:
        """Refuse or break every attempt until ``come_back``."""
        ...

    async def hang(self) -> None:
        """Accept everything and answer nothing until ``come_back``."""
        ...

    async def come_back(self) -> None:
        """Be healthy again at the same address."""
        ...


class LockingDestination(FaultyDestination, Protocol):
    """A destination that can refuse us until a person acts: wrong token, missing permission."""

    async def lock_out(self) -> None:
        """Refuse us, as for a missing permission, until ``come_back``."""
        ...


PATIENCE = 30.0
"""Seconds after which a step counts as hanging."""
_OUTAGE = 120.0


async def opened(destination: Destination) -> Sink:
    """Return a new sink that is open."""
    sink = destination.sink()
    await asyncio.wait_for(sink.open(), PATIENCE)
    return sink


async def reopened(sink: Sink) -> None:
    """Open again after a failed write, as the engine does, until the destination is back."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                # open() raises until the destination is back; what it cannot heal, write() reports.
                return await sink.open()
            except TransientError:
                await asyncio.sleep(0.02)


async def deliver(sink: Sink, batch: Batch) -> WriteResult:
    """Write ``batch``; assert that the result names only events of it and accepts all of them."""
    offsets = {event.offset for event in batch.events}
    result = await asyncio.wait_for(sink.write(batch), PATIENCE)

    assert {rejection.offset for rejection in result.rejected} <= offsets
    assert result.deferred <= offsets
    assert not result.rejected
    assert not result.deferred
    return result


async def deliver_at_last(sink: Sink, batch: Batch) -> None:
    """Write ``batch`` again and again, as the engine does, until the destination has all of it."""
    events = batch.events
    async with asyncio.timeout(_OUTAGE):
        while events:
            try:
                # A new batch each time: the sink may have released the events of the last one.
                result = await sink.write(Batch(events, batch.size, batch.lane))
            except TransientError:
                await asyncio.sleep(0.05)
            else:
                events = [event for event in events if event.offset in result.deferred]


async def failure_of(sink: Sink, batch: Batch) -> TransientError:
    """Write ``batch`` and return the error; it is a failure if there is none."""
    with pytest.raises(TransientError) as caught:
        await asyncio.wait_for(sink.write(batch), PATIENCE)
    return caught.value


def assert_clean(
    destination: FaultyDestination, sink: Sink, error: ForwarderError, batch: Batch
) -> None:
    """Assert that no secret and no row is in anything that people or logs see."""
    shown = [repr(sink), getattr(error, "hint", "")]
    # A traceback in a log shows the causes too, so each of them is checked.
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        # Logs follow the causes; a circle would never end.
        assert link not in links, "an error must not be its own cause: raise ... from another one"
        links.append(link)
        shown += [str(link), repr(link)]
        link = link.__cause__
    forbidden = [*destination.secrets, *(event.id for event in batch.events)]
    for text in shown:
        assert not [secret for secret in forbidden if secret in text]


async def cancelled_after(turns: int, sink: Sink, batch: Batch) -> None:
    """Start a write, let the loop turn ``turns`` times, and cancel the write."""
    writing = asyncio.create_task(sink.write(batch))
    # Each turn ends at another await inside of the write.
    for _ in range(turns):
        await asyncio.sleep(0)
    writing.cancel()
    # Not ``await writing``: a write that swallows its cancellation must fail here, not hang.
    done, _ = await asyncio.wait([writing], timeout=PATIENCE)
    assert done, "a write must end when it is cancelled"
    if not writing.cancelled() and writing.exception() is not None:
        raise AssertionError("a cancelled write failed otherwise") from writing.exception()
