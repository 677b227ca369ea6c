"""Writes parcels to the sink and settles them: acknowledge, bury, or send again."""

from __future__ import annotations

from forwarder.core.contracts import ACCEPTED, Batch, WriteResult
from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ForwarderError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.core.log import DeadLetter
from forwarder.delivery.accounting import account
from forwarder.delivery.acknowledger import Acknowledger
from forwarder.delivery.breaker import Breaker
from forwarder.delivery.calls import Call, answer
from forwarder.delivery.condition import Condition
from forwarder.delivery.events import SinkThrottled
from forwarder.delivery.faults import foreign
from forwarder.delivery.flights import Flight
from forwarder.delivery.lane_reader import LaneReader
from forwarder.delivery.lanes import Lanes
from forwarder.delivery.parcels import Parcel, batch_of, manifest_of
from forwarder.delivery.settling import Settlement, settle
from forwarder.delivery.unrendered import sendable, with_refusals
from forwarder.delivery.window import FlightWindow
from forwarder.delivery.wiring import Wiring

_CAP_STEPS = 256
"""After a batch was too large, each accepted one lets the next grow by one part in so many."""


class Courier:
    """Everything about the writes of one sink, except when they start."""

    def __init__(
        self, wiring: Wiring, condition: Condition, acks: Acknowledger, lanes: Lanes
    ) -> None:
        """Nothing is under way."""
        self._wiring = wiring
        self._condition = condition
        self._acks = acks
        self._lanes = lanes
        self._breaker = Breaker(wiring.options.breaker)
        self.window = FlightWindow(wiring.limits.max_in_flight)
        self.flights: set[Flight] = set()
        self.max_bytes = wiring.limits.max_bytes
        self.eased_until = 0.0
        self.last_success_us: int | None = None
        self.trusting = True
        """Whether the last verdict let refused events become dead letters."""

    @property
    def room(self) -> int:
        """Return how many more writes may start: one at a time while the sink is in trouble."""
        most = 1 if self._condition.trouble is not None else self.window.size
        return most - len(self.flights)

    def load(self, reader: LaneReader, parcel: Parcel, now: float) -> Flight:
        """Make a parcel ready to be written."""
        manifest = manifest_of(parcel.events)
        flight = Flight(
            reader=reader,
            parcel=parcel,
            batch=batch_of(parcel, manifest.size),
            manifest=manifest,
            call=Call(now, self._wiring.limits.write_timeout),
        )
        self.flights.add(flight)
        if len(self.flights) >= self.window.size:
            for other in self.flights:
                other.fills_window = True
        return flight

    async def deliver(self, flight: Flight) -> None:
        """Write once and draw the consequences; runs as a task of its own."""
        try:
            work = self._write(flight)
            outcome = await answer(flight.call, work, f"a write to {self._wiring.name}")
            await self._settle(flight, outcome)
        finally:
            self.flights.discard(flight)

    async def _write(self, flight: Flight) -> WriteResult:
        if self._oversized(flight):
            most = self._wiring.limits.max_event_bytes
            raise BatchTooLargeError(f"too large: the destination takes at most {most} bytes")
        failed = flight.parcel.failed
        if not failed:
            return await self._ask(flight, flight.batch)
        events = flight.batch.events
        sent = Batch(sendable(events, failed), flight.manifest.size)
        result = await self._ask(flight, sent) if sent.events else ACCEPTED
        return with_refusals(result, events, failed)

    async def _ask(self, flight: Flight, batch: Batch) -> WriteResult:
        """Have the sink write; nothing but the batch holds its events, so that it can let go."""
        flight.asked = True
        result = await self._wiring.sink.write(batch)
        if not isinstance(result, WriteResult):
            raise TypeError(type(result))
        return result

    def _oversized(self, flight: Flight) -> bool:
        """Say whether this is one event that the sink need not even be asked about."""
        most, manifest = self._wiring.limits.max_event_bytes, flight.manifest
        return most is not None and manifest.count == 1 and manifest.size > most

    async def _settle(self, flight: Flight, outcome: WriteResult | ForwarderError) -> None:
        settlement = settle(flight.parcel, flight.batch, flight.manifest, outcome)
        if settlement.accepted:
            self._breaker.accepted()
            self.trusting = True
        fault = await self._forbids(flight, settlement) if settlement.rejected else None
        verdict = settlement if fault is None else settlement.sparing(flight.parcel)
        self.trusting = self.trusting and fault is None
        self._apply(flight, verdict, outcome)
        flight.ended_us = self._wiring.clock.now_us()
        flight.seconds = self._wiring.clock.monotonic() - flight.call.started
        if settlement.accepted:
            self.last_success_us = flight.ended_us
        for event in account(
            self._wiring.name, flight, settlement, outcome, held=fault is not None
        ):
            self._wiring.emit(event)
        self._learn(flight, settlement, outcome, fault)

    async def _forbids(self, flight: Flight, settlement: Settlement) -> ForwarderError | None:
        """Return why rejected events must not become dead letters, None when they may.

        Suspects do not count for the breaker once more: since they were spared, either something
        else was accepted, and they are at fault, or nothing was, and it is still open.
        """
        letters = settlement.rejected
        if not settlement.accepted and not flight.parcel.suspect:
            self._breaker.refused(one.reason for one in letters)
        if self._breaker.tripped:
            return _mass_refusal(letters[-1], unrendered=letters[-1].offset in flight.parcel.failed)
        try:
            events, size = await self._wiring.queue.dead_letter_room()
        except ForwarderError as error:
            return error
        except Exception as error:  # noqa: BLE001 - the journal's trouble must not end a sink
            return foreign(error, "asking the journal for room")
        if size <= 0 or events - self._acks.dead_pending < len(letters):
            return NeedsOperatorError(
                f"no room for more dead letters; the last one's reason: {letters[-1].reason}",
                hint="look at them with 'forwarder dead-letters list', then replay or drop them",
            )
        return None

    def _apply(
        self, flight: Flight, settlement: Settlement, outcome: WriteResult | ForwarderError
    ) -> None:
        reader, now = flight.reader, self._wiring.clock.monotonic()
        asked = outcome.retry_after if isinstance(outcome, WriteResult) else None
        for parcel in settlement.again:
            parcel.due = now
            if parcel.deferred:
                parcel.due += self._wiring.options.backoff.delay(
                    parcel.attempts, self._wiring.rng, retry_after=self._bounded(asked)
                )
            reader.again.append(parcel)
        if settlement.done:
            reader.done.add(settlement.done)
            if self._lanes.knows(reader):
                self._acks.mark(reader.name, reader.done.progress, settlement.rejected)

    def _learn(
        self,
        flight: Flight,
        settlement: Settlement,
        outcome: WriteResult | ForwarderError,
        fault: ForwarderError | None,
    ) -> None:
        """Adapt the window, the batch size and what is known of the sink's condition."""
        match fault or outcome:
            case WriteResult() as result:
                if flight.asked:
                    self._answered(flight, settlement, result)
            case BatchRefusedError() | BatchTooLargeError() as error:
                if isinstance(error, BatchTooLargeError) and flight.manifest.count > 1:
                    self.max_bytes = max(1, min(self.max_bytes, flight.manifest.size // 2))
                if flight.asked:
                    self._works()
            case ForwarderError() as error:
                self._failed(error)

    def _answered(self, flight: Flight, settlement: Settlement, result: WriteResult) -> None:
        self._works(accepted=bool(settlement.accepted))
        if settlement.accepted:
            more = self.max_bytes + max(1, self.max_bytes // _CAP_STEPS)
            self.max_bytes = min(self._wiring.limits.max_bytes, more)
        asked = self._bounded(result.retry_after)
        if asked is not None:
            now = self._wiring.clock.monotonic()
            self.eased_until = max(self.eased_until, now + asked)
        nothing_taken = bool(settlement.deferred) and not settlement.accepted
        if result.slow_down or asked is not None or nothing_taken:
            self._throttled(asked)
        else:
            self.window.succeeded(full=flight.fills_window)

    def _works(self, *, accepted: bool = False) -> None:
        """The destination answers: that ends the trouble, unless it refuses everything.

        While refused events wait that may not become dead letters, the trouble lasts.
        """
        if not self._condition.usable:
            return
        if accepted:
            self._condition.attempts = 0
        if not (self._breaker.tripped or self._lanes.suspicious):
            self._condition.works()

    def _failed(self, error: ForwarderError) -> None:
        now = self._wiring.clock.monotonic()
        if not self._condition.usable:
            self._condition.straggled(error, now)
            return
        self._condition.failed(error, now)
        if isinstance(error, TransientError) and error.retry_after is not None:
            self._throttled(error.retry_after)
        else:
            self.window.failed()

    def _throttled(self, retry_after: float | None) -> None:
        if self.window.throttled():
            name, size = self._wiring.name, self.window.size
            self._wiring.emit(SinkThrottled(name, window=size, retry_after=retry_after))

    def _bounded(self, asked: float | None) -> float | None:
        return None if asked is None else min(max(0.0, asked), self._wiring.options.longest_wait)


def _mass_refusal(last: DeadLetter, *, unrendered: bool) -> NeedsOperatorError:
    """Return why no more events are given up: the fault is in none of them."""
    if unrendered:
        return NeedsOperatorError(
            f"one event after the other {last.reason}",
            hint="mend the sink's format or choose another one; nothing was given up since",
        )
    return NeedsOperatorError(
        f"the destination refuses one event after the other: {last.reason}",
        hint="mend the destination or the sink's settings; nothing was given up since",
    )
