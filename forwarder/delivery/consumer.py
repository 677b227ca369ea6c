"""The loop of one sink: read ahead, write, settle, acknowledge; open, wait and hold; stop.

One coroutine decides; reading, opening, writing and acknowledging are tasks that ring its alarm
when they end. So nothing that hangs keeps it from looking at the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from random import Random

from forwarder.core.contracts import Render, Sink
from forwarder.core.telemetry import Emit, ignore
from forwarder.core.timing import Clock
from forwarder.delivery.acknowledger import Acknowledger
from forwarder.delivery.acks import Ranges
from forwarder.delivery.alarm import Alarm
from forwarder.delivery.calls import Call, answer
from forwarder.delivery.courier import Courier
from forwarder.delivery.crew import Crew
from forwarder.delivery.events import SinkDrained
from forwarder.delivery.lane_reader import LaneReader
from forwarder.delivery.lanes import Lanes
from forwarder.delivery.last_call import LastCall
from forwarder.delivery.opener import Opener
from forwarder.delivery.options import DeliveryOptions
from forwarder.delivery.phases import Phase, Phases, phase_of
from forwarder.delivery.queue import SinkQueue
from forwarder.delivery.read_ahead import ReadAhead
from forwarder.delivery.state import SinkState, snapshot
from forwarder.delivery.wiring import Wiring

_PULSE = 30.0
_RESERVE = 5.0
"""Seconds of a drain that are kept for acknowledging and closing, at most."""


class Consumer:
    """Delivers one sink's lanes, each event at least once or into the dead letters.

    The runtime makes one for each sink and runs ``run`` as a task of its own. Consumers share
    nothing, so that none can delay another.
    """

    def __init__(
        self,
        *,
        name: str,
        sink: Sink,
        queue: SinkQueue,
        render: Render,
        options: DeliveryOptions,
        clock: Clock,
        rng: Random,
        emit: Emit = ignore,
    ) -> None:
        """Wire up; nothing is opened, read or started."""
        limits = options.limits(sink.limits)
        wiring = Wiring(name, sink, queue, render, limits, options, clock, rng, emit)
        self._wiring = wiring
        self._alarm = Alarm(clock)
        self._crew = Crew(self._alarm.ring)
        self._condition = wiring.condition(usable=False)
        self._acks = Acknowledger(wiring, changed=self._acknowledged)
        self._lanes = Lanes(
            wiring, done=self._pass_over, gone=self._acks.forget, woken=self._alarm.ring
        )
        self._read_ahead = ReadAhead(wiring, self._lanes, self._crew)
        self._opener = Opener(wiring, self._condition, self._crew, options.open_timeout)
        self._courier = Courier(wiring, self._condition, self._acks, self._lanes)
        self._conditions = (self._condition, self._acks.condition, self._read_ahead.condition)
        self._last_call = LastCall(self._courier, self._acks, self._lanes, self._conditions)
        self._phases = Phases(name, clock, emit)
        self._paused = options.paused
        self._stop_by: float | None = None
        self._running = False
        self._ended = asyncio.Event()

    async def run(self, beat: Callable[[], None] | None = None) -> None:
        """Deliver until ``drain`` is called or the task is cancelled.

        ``beat`` is called at least every 30 s, whatever the sink does: a sign of life.
        Returns after a drain. Raises only on a mistake in this program; the supervisor starts a
        new consumer then, which continues from what was acknowledged.
        """
        self._running = True
        try:
            self._crew.spawn(self._acks.run(), f"acknowledging {self._wiring.name}")
            while self._stop_by is None:
                self._alarm.clear()
                self._crew.check()
                now = self._wiring.clock.monotonic()
                self._step(now)
                if beat is None:
                    await self._alarm.wait(self._next_moment(now))
                else:
                    beat()
                    await self._alarm.wait(min(self._next_moment(now) or inf, now + _PULSE))
            await self._wind_down(self._stop_by)
        finally:
            await self._leave()

    async def finish(self, deadline: float) -> None:
        """Deliver what is stored and wait for nothing more; then ``drain`` may follow.

        Returns when nothing is left, when the sink is in trouble, or at ``deadline``.
        """
        if self._running:
            self._last_call.begin(deadline)
            self._alarm.ring()
            await self._last_call.over()

    async def drain(self, deadline: float) -> None:
        """Stop reading, let writes end until ``deadline`` (monotonic seconds), acknowledge, close.

        A part of the time, at most 5 s, is kept for acknowledging and closing. What did not
        settle is cancelled, stays unacknowledged and is sent again after the next start.
        """
        self._stop_by = deadline if self._stop_by is None else min(self._stop_by, deadline)
        self._alarm.ring()
        if self._running:
            await self._ended.wait()
        else:
            await self._leave()

    def pause(self) -> None:
        """Start no more writes; those under way settle, nothing is lost."""
        self._paused = True
        self._alarm.ring()

    def resume(self) -> None:
        """Deliver again after ``pause``, or for the first time after a paused start."""
        self._paused = False
        self._alarm.ring()

    def wake(self) -> None:
        """Try at once what waits for a later attempt: a secret or certificate has changed."""
        self._condition.hurry(self._wiring.clock.monotonic())
        self._alarm.ring()

    def state(self) -> SinkState:
        """Return a snapshot; cheap, may be called at any time."""
        return snapshot(
            self._wiring.name, self._phases, self._conditions, self._courier, self._lanes
        )

    def _step(self, now: float) -> None:
        """Do everything that can be done now; nothing here waits."""
        for call in self._calls():
            call.cut_if_overdue(now)
        if self._may_open(now):
            self._opener.start(now)
        while self._may_write(now) and self._courier.room > 0 and self._send(now):
            pass
        suspects, again = self._courier.trusting, self._may_write(now)
        self._lanes.listen()
        self._read_ahead.keep_going(now, again=again, suspects=suspects)
        self._phases.turn(self._phase(), self._conditions)
        self._last_call.look(now, paused=self._paused)

    def _calls(self) -> list[Call]:
        opening = [] if self._opener.call is None else [self._opener.call]
        return [*opening, *(flight.call for flight in self._courier.flights)]

    def _may_open(self, now: float) -> bool:
        busy = self._condition.usable or self._opener.call or self._courier.flights
        return not (busy or self._paused) and now >= self._condition.not_before

    def _may_write(self, now: float) -> bool:
        stored, eased = self._acks.condition.trouble is None, now < self._courier.eased_until
        return self._condition.usable and stored and not (eased or self._paused)

    def _send(self, now: float) -> bool:
        found = self._lanes.next_parcel(
            now, self._courier.max_bytes, suspects=self._courier.trusting
        )
        if found is None:
            return False
        flight = self._courier.load(*found, now)
        work, name = self._courier.deliver(flight), f"writing to {self._wiring.name}"
        flight.call.task = self._crew.spawn(work, name)
        return True

    def _next_moment(self, now: float) -> float | None:
        """Return when to look again if nothing rings; what is due already is under way."""
        moments = [call.deadline for call in self._calls()]
        moments.append(self._read_ahead.condition.not_before)
        if not self._condition.usable and not self._paused:
            moments.append(self._condition.not_before)
        moments += (self._courier.eased_until, self._last_call.until)
        if self._may_write(now) and self._courier.room > 0:
            moments += self._lanes.next_moments()
        return min((moment for moment in moments if now < moment < inf), default=None)

    def _phase(self) -> Phase:
        if self._stop_by is not None:
            return Phase.DRAINING
        if self._paused:
            return Phase.PAUSED
        return phase_of(self._conditions, usable=self._condition.usable)

    def _pass_over(self, reader: LaneReader, ranges: Ranges) -> None:
        """Acknowledge what turned out to hold nothing for this sink."""
        before = reader.done.prefix
        reader.done.add(ranges)
        if reader.done.prefix != before and self._lanes.knows(reader):
            self._acks.mark(reader.name, reader.done.progress)

    def _acknowledged(self) -> None:
        """Look which lanes have ended; after a failure also whether they still exist."""
        self._lanes.note_ends(self._acks.stored)
        if self._acks.condition.trouble is not None:
            self._lanes.stale = True
        self._alarm.ring()

    async def _wind_down(self, deadline: float) -> None:
        """Let writes end and acknowledge them, as far as time allows."""
        started = self._wiring.clock.monotonic()
        self._phases.turn(self._phase(), self._conditions)
        self._lanes.stop()
        flights = self._courier.flights
        reserve = min(_RESERVE, (deadline - started) / 4)
        await self._alarm.until(lambda: not flights, deadline - reserve)
        abandoned = list(flights)
        for flight in abandoned:
            flight.call.abandon()
        await self._alarm.until(lambda: self._acks.idle, deadline)
        seconds = self._wiring.clock.monotonic() - started
        self._wiring.emit(SinkDrained(self._wiring.name, len(abandoned), seconds))

    async def _leave(self) -> None:
        """Cancel what is left and close the sink; takes seconds at most, whatever hangs."""
        clock, patience = self._wiring.clock, self._wiring.options.close_timeout
        self._lanes.stop()
        self._last_call.end()
        for call in self._calls():
            call.abandon()
        self._crew.dismiss()
        await self._alarm.until(lambda: not self._crew.tasks, clock.monotonic() + patience)
        closing = self._crew.spawn(self._close(), f"closing {self._wiring.name}")
        await self._alarm.until(closing.done, clock.monotonic() + patience)
        self._crew.dismiss()
        self._alarm.stop()
        self._ended.set()

    async def _close(self) -> None:
        call = Call(self._wiring.clock.monotonic(), self._wiring.options.close_timeout)
        await answer(call, self._wiring.sink.aclose(), f"closing {self._wiring.name}")
