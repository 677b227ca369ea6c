"""What every sink must do, as tests. Subclass, and provide a destination.

    class TestMySink(OutageContract, OperatorFaultContract):
        @pytest.fixture
        async def destination(self) -> AsyncIterator[MyDestination]:
            async with MyDestination() as destination:
                yield destination

``SinkContract`` is for every sink, ``OutageContract`` for those whose destination can go away,
``OperatorFaultContract`` for those that a person can lock out.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from forwarder.core.errors import NeedsOperatorError
from forwarder.testing.destinations import (
    PATIENCE,
    Destination,
    FaultyDestination,
    LockingDestination,
    assert_clean,
    cancelled_after,
    deliver,
    failure_of,
    opened,
    reopened,
)
from forwarder.testing.fake_sinks import make_batch

# More turns of the loop than any write takes that is answered at once.
_CANCEL_TURNS = 24


class SinkContract:
    """True for every sink."""

    def test_limits_are_usable_before_open(self, destination: Destination) -> None:
        limits = destination.sink().limits

        assert limits.max_events > 0
        assert limits.max_bytes > 0
        assert limits.max_in_flight > 0
        assert limits.max_wait >= 0
        assert limits.write_timeout > 0

    async def test_closing_without_opening_is_safe(self, destination: Destination) -> None:
        sink = destination.sink()

        await asyncio.wait_for(sink.aclose(), PATIENCE)
        await asyncio.wait_for(sink.aclose(), PATIENCE)

    async def test_open_can_be_repeated_and_delivers_nothing(
        self, destination: Destination
    ) -> None:
        sink = destination.sink()
        try:
            await sink.open()
            await sink.open()

            # Probing is fine; an event at open() would be one that nobody has sent.
            assert not destination.arrived()
            await deliver(sink, make_batch(2))
        finally:
            await sink.aclose()
            await sink.aclose()

    async def test_a_written_batch_is_at_the_destination_when_write_returns(
        self, destination: Destination
    ) -> None:
        sink, batch = await opened(destination), make_batch(5)
        ids = [event.id for event in batch.events]

        await deliver(sink, batch)

        assert set(ids) <= set(destination.arrived())
        await sink.aclose()

    async def test_as_many_writes_as_allowed_run_at_once(self, destination: Destination) -> None:
        sink = await opened(destination)
        batches = [make_batch(3, first_offset=10 * i) for i in range(sink.limits.max_in_flight)]
        ids = {event.id for batch in batches for event in batch.events}

        await asyncio.gather(*(deliver(sink, batch) for batch in batches))

        assert ids <= set(destination.arrived())
        await sink.aclose()

    async def test_a_write_can_be_cancelled_at_any_await_and_repeated(
        self, destination: Destination
    ) -> None:
        sink = await opened(destination)
        for turns in range(_CANCEL_TURNS):
            await cancelled_after(turns, sink, make_batch(2, first_offset=100 * turns))
        batches = [make_batch(2, first_offset=100 * turns) for turns in range(_CANCEL_TURNS)]
        ids = {event.id for batch in batches for event in batch.events}

        for batch in batches:
            await deliver(sink, batch)

        assert ids <= set(destination.arrived())
        await sink.aclose()


class OutageContract(SinkContract):
    """True for every sink whose destination can be away."""

    async def test_an_outage_is_a_transient_error_and_one_attempt(
        self, destination: FaultyDestination
    ) -> None:
        sink = await opened(destination)
        await destination.go_down()
        before = destination.requests()

        error = await failure_of(sink, make_batch(3))

        # An outage that asks for a person would be retried slowly, and wake somebody for nothing.
        assert not isinstance(error, NeedsOperatorError)
        # Two layers that retry multiply: a sink that is down would get the product of both.
        assert destination.requests() - before <= 1, "the engine retries; a sink never does"
        await sink.aclose()

    async def test_what_an_outage_refused_is_delivered_by_writing_it_again(
        self, destination: FaultyDestination
    ) -> None:
        sink = await opened(destination)
        await destination.go_down()
        await failure_of(sink, make_batch(3))
        await destination.come_back()

        batch = make_batch(3)
        ids = {event.id for event in batch.events}
        await reopened(sink)
        await deliver(sink, batch)

        assert ids <= set(destination.arrived())
        await sink.aclose()

    async def test_a_hanging_destination_blocks_neither_cancelling_nor_closing(
        self, destination: FaultyDestination
    ) -> None:
        sink = await opened(destination)
        await destination.hang()
        writing = asyncio.create_task(sink.write(make_batch(3)))
        # Long enough to be in the middle of the write; too short would prove less, not fail.
        await asyncio.sleep(0.05)

        assert not writing.done()
        started = time.monotonic()
        writing.cancel()
        await asyncio.wait([writing], timeout=PATIENCE)
        await asyncio.wait_for(sink.aclose(), PATIENCE)

        assert time.monotonic() - started < PATIENCE / 2
        await destination.come_back()

    async def test_no_error_of_an_outage_shows_a_secret_or_a_row(
        self, destination: FaultyDestination
    ) -> None:
        sink = await opened(destination)
        await destination.go_down()
        batch = make_batch(3)
        error = await failure_of(sink, batch)

        assert_clean(destination, sink, error, batch)
        await sink.aclose()


class OperatorFaultContract(SinkContract):
    """True for every sink that a person can lock out, and let in again."""

    async def test_being_locked_out_asks_for_a_person_and_loses_nothing(
        self, destination: LockingDestination
    ) -> None:
        sink, batch = await opened(destination), make_batch(3)
        ids = {event.id for event in batch.events}
        await destination.lock_out()

        error = await failure_of(sink, batch)
        await destination.come_back()
        await reopened(sink)
        await deliver(sink, make_batch(3))

        assert isinstance(error, NeedsOperatorError)
        assert error.hint, "say what to do"
        assert ids <= set(destination.arrived())
        await sink.aclose()

    async def test_open_says_so_before_anything_is_written(
        self, destination: LockingDestination
    ) -> None:
        sink = destination.sink()
        await destination.lock_out()

        with pytest.raises(NeedsOperatorError) as caught:
            await sink.open()

        assert_clean(destination, sink, caught.value, make_batch(3))
        await sink.aclose()

    async def test_no_error_of_a_lock_out_shows_a_secret_or_a_row(
        self, destination: LockingDestination
    ) -> None:
        sink, batch = await opened(destination), make_batch(3)
        await destination.lock_out()

        error = await failure_of(sink, batch)

        assert_clean(destination, sink, error, batch)
        await sink.aclose()
