"""What must be true of a journal after every step of the machine."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant

from forwarder.core.contracts import FORWARDER_STREAM, Record
from forwarder.core.journal import Fate, Journal, Keeping, LaneCancelled
from forwarder.core.log import SinkQueue
from forwarder.core.telemetry import ignore
from forwarder.testing.journal_crash import (
    Crash,
    CrashError,
    CrashingSession,
    Opener,
    T,
    WallClock,
)
from forwarder.testing.journal_model import (
    ALIASES,
    CANCELLED,
    EVERYTHING,
    KEEP_US,
    KEY,
    LOSSES,
    MOST_LETTERS,
    POOL,
    RECEIVED,
    Model,
    Stored,
)


class JournalChecks(RuleBasedStateMachine):
    """A journal and its model, side by side; ``machine_for`` says whose journal."""

    make: Callable[[], Opener]
    # So small that the journal is full after a few steps.
    max_size = 700

    def __init__(self) -> None:
        """Open a fresh journal."""
        super().__init__()
        # One loop for all steps: the tasks and locks of a journal belong to the loop they began in.
        self.runner = asyncio.Runner()
        self.opener = type(self).make()
        self.clock = WallClock()
        self.crash = Crash()
        self.model = Model()
        self.queues: dict[str, SinkQueue] = {}
        self._seen_kept: dict[str, dict[int, tuple[bytes, str]]] = {}
        self.names = 0
        self.journal = self.run(self._open())
        self._crash_at: tuple[int, bool] | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to its end."""
        return self.runner.run(work)

    async def _open(self) -> Journal:
        return await self.opener.open(
            Keeping(self.max_size, KEEP_US, MOST_LETTERS),
            clock=self.clock,
            emit=ignore,
            wrap=lambda session: CrashingSession(session, self.crash),
        )

    def teardown(self) -> None:
        """Close and remove everything."""
        self.run(self.journal.aclose())
        self.runner.close()
        self.opener.discard()

    def step(self, work: Callable[[], Awaitable[T]], apply: Callable[[], None]) -> T | None:
        """Do one operation and what it means in the model; a crash leaves all of it or nothing."""
        if self._crash_at is not None:
            statement, late = self._crash_at
            self.crash.arm(statement, late=late)
        try:
            result = self.run(awaited(work()))
        except CrashError:
            self.crash.disarm()
            if self.crash.committed:
                apply()
            self._reopen()
            result = None
        else:
            fired = self.crash.fired and self._crash_at is not None
            self.crash.disarm()
            # A crash that nobody heard of would leave half an operation behind.
            assert not fired
            apply()
        self._crash_at = None
        self._discover()
        return result

    def _reopen(self) -> None:
        self.run(self.journal.aclose())
        self.journal = self.run(self._open())
        # Whoever opens a journal ends what the last one had stopped.
        for lane, one in self.model.lanes.items():
            if one.stopped:
                self.cancel(lane)
        self.queues.clear()
        for name, sink in self.model.sinks.items():
            if sink.running:
                self.queues[name] = self.run(
                    awaited(self.journal.sink_queue(name, blocking=sink.blocking))
                )

    def cancel(self, lane: str) -> LaneCancelled:
        """Settle a stopped lane in the model; return what the journal must say of it."""
        model, one = self.model, self.model.lanes[lane]
        one.cancelled, one.stopped = True, False
        readers = [sink for sink, name in model.units if name == lane]
        again = lost = returned = 0
        bound = model.read_by_all()
        for offset in sorted({o for s in readers for o in model.waiting(s, lane)}):
            row = model.stored[one.pages_of][offset]
            waits = [s for s in readers if model.units[s, lane].get(offset) == "wait"]
            if one.kind == "letters":
                model.give_back(waits[0], lane, offset)
                returned += 1
                continue
            received = any(model.units[s, lane].get(offset) in RECEIVED for s in readers)
            unread = row.time_us is not None and bound is not None and row.time_us > bound
            if one.kind == "backfill" and not received:
                del model.stored[lane][offset]
                if unread:
                    again += 1
                    for sink in waits:
                        del model.units[sink, lane][offset]
                    continue
            for sink in waits:
                model.lose(sink, lane, offset, CANCELLED)
                lost += 1
        if one.kind == "backfill":
            for row in model.stored[lane].values():
                row.kept = False
        return LaneCancelled(lane, again, lost, returned)

    def _discover(self) -> None:
        """Learn the offsets of new rows; events of the forwarder's own are owed to every sink."""
        for lane, rows in self.model.stored.items():
            for offset, (identity, stream) in self.kept(lane).items():
                if offset in rows or offset < self.model.end:
                    continue
                assert stream == FORWARDER_STREAM, "rows are stored by append alone"
                rows[offset] = Stored(identity, self.clock.wall_us, self.clock.wall_us, own=True)
                self.model.owe(lane, offset)
        self.settle_end()

    def settle_end(self) -> None:
        """Note up to where rows are stored."""
        ends = [offset + 1 for rows in self.model.stored.values() for offset in rows]
        self.model.end = max([self.model.end, *ends])

    def kept(self, lane: str) -> dict[int, tuple[bytes, str]]:
        """Return what a sink would read of a lane: identity and stream by offset."""
        self._seen_kept.clear()
        return self.run(self._rows_kept(lane))

    async def _rows_kept(self, lane: str) -> dict[int, tuple[bytes, str]]:
        if lane in self._seen_kept:
            return self._seen_kept[lane]
        found: dict[int, tuple[bytes, str]] = {}
        offset = 0
        while pages := await self.journal.read(lane, offset, EVERYTHING):
            for page in pages:
                for index in range(page.count):
                    identity = page.ids[16 * index : 16 * index + 16]
                    found[page.first_offset + index] = (identity, page.stream)
            offset = pages[-1].end_offset
        self._seen_kept[lane] = found
        return found

    @invariant()
    def the_journal_is_what_the_model_says(self) -> None:
        """Check everything, after every step."""
        self.run(self._check())

    async def _check(self) -> None:
        self._seen_kept.clear()
        await self._queues_give_exactly_what_waits()
        await self._places_count_what_waits()
        await self._losses_are_recorded_and_counted()
        await self._dead_letters_are_the_models()
        await self._an_audit_says_what_is_true()
        await self._positions_are_where_readers_stored_them()
        await self._the_gate_measures_what_blocking_sinks_wait_for()
        await self._stored_rows_are_counted()

    async def _queues_give_exactly_what_waits(self) -> None:
        """Every running sink is given what it is owed, and nothing else."""
        for name, queue in self.queues.items():
            seen: dict[str, list[int]] = {}
            for lane in await queue.lanes():
                kept = await self._rows_kept(lane.name)
                end = lane.end_offset or self.model.end
                waits = [o for o in sorted(kept) if o < end and not lane.progress.holds(o)]
                seen[lane.name] = waits
            for lane_name, one in self.model.lanes.items():
                expected = [] if one.stopped else self.model.waiting(name, lane_name)
                assert seen.get(lane_name, []) == expected, (name, lane_name)

    async def _places_count_what_waits(self) -> None:
        """The backlog of every sink, running or absent, is what the model says."""
        shown: Counter[tuple[str, str]] = Counter()
        for place in await self.journal.places():
            shown[place.sink, place.lane] += place.backlog
        expected = Counter(
            {
                (sink, lane): len(self.model.waiting(sink, lane))
                for sink, lane in self.model.units
                if not self.model.lanes[lane].stopped
            }
        )
        # The plus drops zeros: no place, and a place with no backlog, say the same.
        assert +shown == +expected
        for one in await self.journal.sinks():
            waiting = [
                len(self.model.waiting(*key)) for key in self.model.units if key[0] == one.name
            ]
            assert one.backlog == sum(waiting), one
            letters = len(self.model.letters[one.name]) + len(self.model.travelling[one.name])
            assert one.dead_letters == letters, one

    async def _losses_are_recorded_and_counted(self) -> None:
        """Each lost offset is recorded, and the gaps' counts are their number."""
        counted: Counter[tuple[str, str]] = Counter()
        for gap in await self.journal.gaps():
            if gap.scope.startswith("sink:"):
                assert gap.rows is not None
                counted[gap.scope.removeprefix("sink:"), gap.reason] += gap.rows
        assert +counted == +self.model.gaps
        for name in self.model.sinks:
            passed = await self.journal.passed_over(name)
            recorded = {
                (one.lane, offset, one.reason)
                for one in passed
                if one.reason in LOSSES
                for offset in range(one.start, one.end)
            }
            lost = {
                (lane, offset, fate)
                for (sink, lane), units in self.model.units.items()
                if sink == name
                for offset, fate in units.items()
                if fate in LOSSES
            }
            # Of a row whose page is gone for its age nothing needs to be recorded: no audit asks.
            first = min(self._places_that_stay(), default=EVERYTHING)
            gone = {offset for _, offset in self.model.old}
            old = {one for one in lost if one[1] < first or one[1] in gone}
            assert lost - old <= recorded <= lost, name

    def _places_that_stay(self) -> list[int]:
        model = self.model
        places = {(lane, offset) for lane, rows in model.stored.items() for offset in rows}
        return [offset for _, offset in places - model.old] if model.old else [0]

    async def _dead_letters_are_the_models(self) -> None:
        """Every refused event is a dead letter until it is discarded or delivered."""
        for name in self.model.sinks:
            letters = await self.journal.letters(sink=name)
            assert {letter.offset for letter in letters} == set(self.model.letters[name])

    async def _an_audit_says_what_is_true(self) -> None:
        """``judge`` says of every row what the model says, for every sink."""
        for name in self.model.sinks:
            groups: dict[Fate, list[Record]] = defaultdict(list)
            for record in POOL:
                fate = self.model.fate(name, record)
                if fate is not None:
                    groups[fate].append(record)
            for fate, records in groups.items():
                verdicts = await self.journal.judge(KEY, records, aliases_of(records), [name])
                assert getattr(verdicts[name], fate) == len(records), (name, fate, verdicts[name])

    async def _positions_are_where_readers_stored_them(self) -> None:
        """No reader's position is ahead of its rows, or behind."""
        memory = await self.journal.stream_log(KEY).load()
        assert memory.readers == self.model.readers
        assert {one.keys for one in memory.key_sets} == self.model.key_sets

    async def _the_gate_measures_what_blocking_sinks_wait_for(self) -> None:
        """Only rows that a blocking sink waits for, and never a replay, can stop reading."""
        model = self.model
        counted = {
            (name, lane)
            for name, lane in model.units
            if model.sinks[name].running and model.sinks[name].blocking
            if model.lanes[lane].kind in {"live", "backfill"}
        }
        waits = any(model.waiting(*one) for one in counted)
        measured = (await self.journal.undelivered_bytes()) > 0
        # A stopped lane counts until it is settled, though its last writes may have arrived.
        stopped = any(model.lanes[lane].stopped and model.stored[lane] for _, lane in counted)
        assert measured == waits or (measured and stopped)

    async def _stored_rows_are_counted(self) -> None:
        """The number of rows that are kept is the model's."""
        usage = await self.journal.usage()
        kept = sum(row.kept for lane, rows in self.model.stored.items() for row in rows.values())
        over = [
            name
            for name, lane in self.model.lanes.items()
            if lane.cancelled and lane.kind == "backfill"
        ]
        cancelled = sum([len(await self._rows_kept(name)) for name in over])
        assert usage.stored_rows == kept + cancelled


def aliases_of(records: Sequence[Record]) -> dict[int, list[bytes]]:
    """Return, by index, under what a row may have been stored before it had more keys."""
    return {n: ALIASES[one.identity] for n, one in enumerate(records) if one.identity in ALIASES}


async def awaited(work: Awaitable[T]) -> T:
    """Make a coroutine of whatever can be awaited."""
    return await work
