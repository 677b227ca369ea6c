"""The loop of one sink: open, read ahead, write, apply verdicts, acknowledge; flush and drain.

One coroutine decides. Opening, reading, writing and acknowledging are tasks that wake it when they
end, so nothing that hangs keeps it from looking at the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Any

from forwarder.core.contracts import ACCEPTED, Batch, Render, Sink, WriteResult
from forwarder.core.errors import DamagedError, ForwarderError, StateError, TransientError
from forwarder.core.log import SinkQueue
from forwarder.core.telemetry import Emit, ignore
from forwarder.core.timing import Clock
from forwarder.delivery.cursor import Acknowledgement, LaneCursor
from forwarder.delivery.events import (
    OpenFailed,
    QueueFailed,
    SinkDrained,
    SinkOpened,
    SinkThrottled,
)
from forwarder.delivery.lanes import LaneScheduler
from forwarder.delivery.outgoing import OutgoingBatch
from forwarder.delivery.pacing import DeliveryOptions, Health, Pacing, hint_of, kind_of, worst
from forwarder.delivery.state import LaneState, Phase, PhaseLog, SinkState, phase_of
from forwarder.delivery.tasks import BoundedCall, TaskSet, Wakeup, translated
from forwarder.delivery.verdict import MayGiveUp, Outcome, Verdict, decide, may_refuse

# Seconds: well below the time after which the supervisor takes a silent task for stuck.
_PULSE = 30.0
_RESERVE = 5.0
"""Seconds of a drain that are kept for acknowledging and closing, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class _Write:
    """One write under way."""

    cursor: LaneCursor
    batch: OutgoingBatch
    call: BoundedCall


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
        """Open, read and start nothing yet."""
        self._name = name
        self._sink = sink
        self._queue = queue
        self._options = options
        self._limits = options.limits(sink.limits)
        self._clock = clock
        self._emit = emit
        self._wakeup = Wakeup(clock)
        self._tasks = TaskSet(self._wakeup.ring)
        self._pacing = Pacing(self._limits, options, rng)
        self._reading, self._storing = Health(options, rng), Health(options, rng)
        self._healths = (self._pacing.health, self._storing, self._reading)
        self._lanes = LaneScheduler(
            queue,
            render,
            self._limits,
            clock,
            sink=name,
            emit=emit,
            woken=self._wakeup.ring,
        )
        self._phases = PhaseLog(name, clock.now_us(), emit)
        self._writes: dict[int, _Write] = {}
        self._opening: BoundedCall | None = None
        self._opened_in: float | None = None
        self._read_under_way = False
        self._last_success_us: int | None = None
        self._paused = options.paused
        self._flush_by = inf
        self._flushed = asyncio.Event()
        self._stop_by: float | None = None
        self._running = False
        self._ended = asyncio.Event()

    # --- what the runtime calls ------------------------------------------------------------------

    async def run(self, beat: Callable[[], None] | None = None) -> None:
        """Deliver until ``drain`` is called or the task is cancelled.

        ``beat`` is called at least every 30 s, whatever the sink does: a sign of life.
        Returns after a drain. Raises only on a mistake in this program; the supervisor starts a
        new consumer then, which continues from what was acknowledged.
        """
        self._running = True
        try:
            while self._stop_by is None:
                # Cleared before looking for work: what happens from here on wakes the loop again.
                self._wakeup.clear()
                self._tasks.check()
                now = self._clock.monotonic()
                self._step(now)
                moment = self._next_moment(now)
                if beat is not None:
                    beat()
                    moment = min(moment or inf, now + _PULSE)
                await self._wakeup.wait(moment)
            await self._wind_down(self._stop_by)
        finally:
            await self._leave()

    async def flush(self, deadline: float) -> None:
        """Deliver what is stored without waiting for more; then ``drain`` may follow.

        Returns when nothing is left, when the sink has failed, or at ``deadline`` (monotonic
        seconds).
        """
        if self._running:
            self._flush_by = min(self._flush_by, deadline)
            self._lanes.hurry()
            self._wakeup.ring()
            await self._flushed.wait()

    async def drain(self, deadline: float) -> None:
        """Stop reading, let writes end until ``deadline`` (monotonic seconds), acknowledge, close.

        A part of the time, at most 5 s, is kept for acknowledging and closing. What did not
        settle is cancelled, stays unacknowledged and is sent again after the next start.
        """
        self._stop_by = deadline if self._stop_by is None else min(self._stop_by, deadline)
        self._wakeup.ring()
        if self._running:
            await self._ended.wait()
        else:
            await self._leave()

    def pause(self) -> None:
        """Start no more writes; those under way settle, nothing is lost."""
        self._paused = True
        self._wakeup.ring()

    def resume(self) -> None:
        """Deliver again after ``pause``, or for the first time after a paused start."""
        self._paused = False
        self._wakeup.ring()

    def wake(self) -> None:
        """Try at once what waits for a later attempt: a secret or certificate has changed."""
        self._pacing.health.hurry(self._clock.monotonic())
        self._wakeup.ring()

    def is_writing(self, lane: str) -> bool:
        """Return True while events of a lane may be written, or wait to be acknowledged.

        For a lane that was just taken out of ``SinkQueue.lanes``: ask until it is False.
        """
        self._lanes.refresh()
        self._wakeup.ring()
        return self._running and not self._ended.is_set() and self._lanes.has(lane)

    def state(self) -> SinkState:
        """Return a snapshot; cheap, may be called at any time."""
        health = worst(self._healths)
        error = health.trouble if health else None
        seen = [write.batch.seen_us for write in self._writes.values()]
        waiting, now = self._lanes.oldest_seen_us(), self._clock.monotonic()
        return SinkState(
            name=self._name,
            phase=self._phases.now,
            since_us=self._phases.since_us,
            error="" if error is None else str(error),
            hint=hint_of(error),
            attempts=max(health.attempts for health in self._healths),
            in_flight=len(self._writes),
            window=self._pacing.window,
            oldest_unacknowledged_us=min(
                seen if waiting is None else [*seen, waiting], default=None
            ),
            last_success_us=self._last_success_us,
            lanes=tuple(
                LaneState(
                    one.name, one.prefix, one.position, one.end_offset, one.caught_up, one.due(now)
                )
                for one in self._lanes.cursors
            ),
        )

    # --- deciding --------------------------------------------------------------------------------

    def _step(self, now: float) -> None:
        """Do everything that can be done now; nothing here waits."""
        for call in self._calls():
            if call.cut_if_overdue(now):
                # It may hang for ever, and without this the status would say that the sink runs.
                error = TransientError(
                    "a call of the sink does not end although it was cancelled",
                    hint="a bug in the plugin: restart the forwarder, and report it",
                )
                self._pacing.failed(error, now)
        if self._may_open(now):
            self._start_opening(now)
        while self._may_write(now) and self._pacing.room > 0 and self._start_write(now):
            pass
        self._start_storing(now)
        self._lanes.forget()
        # Before reading: a lane that begins to wait must be read once more.
        self._lanes.listen()
        self._start_reading(now)
        self._report_opening()
        self._phases.turn(self._phase(), self._healths, now, self._clock.now_us())
        self._check_flush(now)

    def _calls(self) -> list[BoundedCall]:
        opening = [] if self._opening is None else [self._opening]
        return [*opening, *(write.call for write in self._writes.values())]

    def _may_open(self, now: float) -> bool:
        health = self._pacing.health
        # A sink is opened again only after all its writes have ended: the contract promises that.
        busy = health.usable or self._opening or self._writes
        return not (busy or self._paused) and now >= health.not_before

    def _may_write(self, now: float) -> bool:
        # What is delivered but not acknowledged must not grow without end.
        stored = self._storing.trouble is None
        return stored and not self._paused and self._pacing.may_write(now)

    def _next_moment(self, now: float) -> float | None:
        """Return when to look again if nothing rings; what is due already is under way."""
        moments = [call.deadline for call in self._calls()]
        moments += (self._reading.not_before, self._storing.not_before)
        if not self._pacing.health.usable and not self._paused:
            moments.append(self._pacing.health.not_before)
        moments += (self._pacing.eased_until, self._flush_by)
        if self._may_write(now) and self._pacing.room > 0:
            moments += self._lanes.next_moments()
        return min((moment for moment in moments if now < moment < inf), default=None)

    def _phase(self) -> Phase:
        if self._stop_by is not None:
            return Phase.DRAINING
        if self._paused:
            return Phase.PAUSED
        return phase_of(self._healths, usable=self._pacing.health.usable)

    def _check_flush(self, now: float) -> None:
        """End a flush that has nothing left to do, or that cannot do more soon."""
        if self._flush_by == inf:
            return
        troubled = worst(self._healths) is not None
        busy = self._writes or not self._lanes.idle or not self._lanes.dry
        if self._paused or troubled or now >= self._flush_by or not busy:
            self._flushed.set()

    # --- opening ---------------------------------------------------------------------------------

    def _start_opening(self, now: float) -> None:
        self._opening = BoundedCall(now, self._options.open_timeout)
        self._tasks.spawn(self._open(self._opening), f"opening {self._name}")

    async def _open(self, call: BoundedCall) -> None:
        try:
            outcome = await call.run(self._sink.open(), f"opening {self._name}")
        finally:
            self._opening = None
        now, health = self._clock.monotonic(), self._pacing.health
        if not isinstance(outcome, ForwarderError):
            health.opened()
            self._opened_in = now - call.started
            self._report_opening()
            return
        health.failed(outcome, now, writing=False)
        self._emit(
            OpenFailed(
                self._name,
                kind="timeout" if call.overdue else kind_of(outcome),
                error=str(outcome),
                hint=hint_of(outcome),
                attempts=health.attempts,
                wait=health.not_before - now,
            )
        )

    def _report_opening(self) -> None:
        """Emit that the destination can be written to, when it can.

        After a failed write only a write shows that: a destination that lets everybody in and
        refuses everything would be reported as open at each attempt.
        """
        if self._opened_in is not None and self._pacing.health.trouble is None:
            self._emit(SinkOpened(self._name, self._opened_in))
            self._opened_in = None

    # --- writing ---------------------------------------------------------------------------------

    def _start_write(self, now: float) -> bool:
        """Start the next write; return False if there is nothing to send."""
        pacing = self._pacing
        found = self._lanes.next_batch(now, pacing.max_bytes, suspects=pacing.trusting)
        if found is None:
            return False
        write = _Write(*found, BoundedCall(now, self._limits.write_timeout))
        number = pacing.start()
        self._writes[number] = write
        self._tasks.spawn(self._deliver(number, write), f"writing to {self._name}")
        return True

    async def _deliver(self, number: int, write: _Write) -> None:
        """Write once and apply the verdict; runs as a task of its own."""
        try:
            outcome = await self._outcome(write)
            room = await self._dead_letter_room() if may_refuse(write.batch, outcome) else 0
            may_give_up = MayGiveUp(self._pacing.breaker, room)
            verdict = decide(self._name, write.batch, outcome, may_give_up)
            self._apply(number, write, verdict)
            if verdict.pace.accepted:
                self._last_success_us = outcome.ended_us
        finally:
            del self._writes[number]
            self._pacing.end()

    async def _outcome(self, write: _Write) -> Outcome:
        call, sent = write.call, write.batch.for_the_sink()
        answer: WriteResult | ForwarderError = ACCEPTED
        asked = bool(sent.events)
        if asked:
            answer = await call.run(self._ask(sent), f"a write to {self._name}")
        seconds = self._clock.monotonic() - call.started
        return Outcome(answer, asked, call.overdue, seconds, self._clock.now_us())

    async def _ask(self, batch: Batch) -> WriteResult:
        # Only the batch holds its events from here on, so that releasing them frees them.
        result = await self._sink.write(batch)
        if not isinstance(result, WriteResult):
            raise TypeError(type(result))
        return result

    def _apply(self, number: int, write: _Write, verdict: Verdict) -> None:
        cursor, now, pace = write.cursor, self._clock.monotonic(), verdict.pace
        rest = self._pacing.rest(pace) if pace.deferred else 0.0
        cursor.settle(verdict.done, verdict.dead, verdict.again, now=now, rest=rest)
        if verdict.done:
            self._lanes.mark(cursor)
        for event in verdict.events:
            self._emit(event)
        if self._pacing.learn(pace, number, now, suspicious=self._lanes.suspicious):
            window = self._pacing.window
            self._emit(SinkThrottled(self._name, window=window, retry_after=pace.retry_after))

    async def _dead_letter_room(self) -> int | ForwarderError:
        """Return how many more events the dead letters take, or why the journal cannot say."""
        subject = "asking the journal for room"
        found = await translated(self._queue.dead_letter_room(), subject)
        if isinstance(found, ForwarderError):
            return found
        events, size = found
        return events - self._lanes.dead_pending if size > 0 else 0

    # --- the journal: reading and acknowledging, one call of each at a time ----------------------

    def _start_reading(self, now: float) -> None:
        if self._read_under_way or now < self._reading.not_before:
            return
        again, suspects = self._may_write(now), self._pacing.trusting
        work = self._lanes.next_read(now, again=again, suspects=suspects)
        if work is not None:
            self._read_under_way = True
            self._tasks.spawn(self._read(work[1]), f"reading {work[0]} for {self._name}")

    async def _read(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            outcome = await translated(work, "reading from the journal")
        finally:
            self._read_under_way = False
        if isinstance(outcome, ForwarderError):
            self._queue_failed("read", self._reading, outcome)
        else:
            self._reading.accepted()

    def _start_storing(self, now: float) -> None:
        if now < self._storing.not_before:
            return
        acknowledgement = self._lanes.next_to_store()
        if acknowledgement is not None:
            self._tasks.spawn(self._store(acknowledgement), f"acknowledging {self._name}")

    async def _store(self, one: Acknowledgement) -> None:
        work = self._queue.acknowledge(one.cursor.name, one.progress, one.dead)
        outcome = await translated(work, "acknowledging in the journal")
        if isinstance(outcome, StateError) and not isinstance(outcome, DamagedError):
            # The journal is not the one that was read: a new consumer starts from what it holds.
            raise outcome
        if isinstance(outcome, ForwarderError):
            self._lanes.store_failed(one)
            self._queue_failed("acknowledge", self._storing, outcome)
        else:
            self._storing.accepted()
            self._lanes.stored(one)

    def _queue_failed(self, doing: str, health: Health, error: ForwarderError) -> None:
        now = self._clock.monotonic()
        health.failed(error, now)
        wait = health.not_before - now
        self._emit(QueueFailed(self._name, str(error), hint_of(error), doing, wait))

    # --- stopping --------------------------------------------------------------------------------

    async def _wind_down(self, deadline: float) -> None:
        """Let writes end and acknowledge them, as far as time allows."""
        started = self._clock.monotonic()
        self._phases.turn(Phase.DRAINING, self._healths, started, self._clock.now_us())
        self._lanes.stop()
        # Writes that end at the last moment would be sent again: their acknowledgement takes time.
        reserve = min(_RESERVE, (deadline - started) / 4)
        await self._until(lambda: not self._writes, deadline - reserve)
        abandoned = list(self._writes.values())
        for write in abandoned:
            write.call.abandon()
        await self._until(lambda: self._lanes.idle, deadline)
        seconds = self._clock.monotonic() - started
        self._emit(SinkDrained(self._name, len(abandoned), seconds))

    async def _until(self, done: Callable[[], bool], deadline: float) -> None:
        """Wait until ``done()`` or the deadline; acknowledge meanwhile."""
        while not done() and (now := self._clock.monotonic()) < deadline:
            self._wakeup.clear()
            self._start_storing(now)
            again = self._storing.not_before
            await self._wakeup.wait(min(deadline, again) if again > now else deadline)

    async def _leave(self) -> None:
        """Cancel what is left and close the sink; takes seconds at most, whatever hangs."""
        patience = self._options.close_timeout
        self._lanes.stop()
        self._flushed.set()
        for call in self._calls():
            call.abandon()
        self._tasks.cancel()
        await self._until_or(lambda: self._tasks.empty, patience)
        # Closed even if a write still clings: the process must end.
        closing = self._tasks.spawn(self._close(), f"closing {self._name}")
        await self._until_or(closing.done, patience)
        self._tasks.cancel()
        self._wakeup.stop()
        self._ended.set()

    async def _until_or(self, done: Callable[[], bool], patience: float) -> None:
        """Wait until ``done()``, for at most ``patience`` seconds."""
        deadline = self._clock.monotonic() + patience
        while not done() and self._clock.monotonic() < deadline:
            self._wakeup.clear()
            await self._wakeup.wait(deadline)

    async def _close(self) -> None:
        call = BoundedCall(self._clock.monotonic(), self._options.close_timeout)
        await call.run(self._sink.aclose(), f"closing {self._name}")
