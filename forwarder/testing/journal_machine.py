"""A model of a journal in plain dicts, and a machine that holds a journal against it.

The machine does what pollers, sinks and operators do, in any order, crashes included. After every
step each row that a sink is owed in a lane is exactly one of: waiting, delivered, a dead letter,
lost (and then its offset is recorded, and counted in a gap), or passed by intent. What the journal
shows of it (its queues, places, dead letters, gaps and ``judge``) must equal the model.

    class TestJournalMachine(machine_for(lambda: MyOpener()).TestCase): ...
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from forwarder.core.contracts import LIVE
from forwarder.core.errors import StateError
from forwarder.core.journal import LaneCancelled
from forwarder.core.log import Addition, DeadLetter, Progress, ReaderState, SinkQueue
from forwarder.testing.journal_checks import JournalChecks, awaited
from forwarder.testing.journal_model import (
    CANCELLED,
    DISCARDED,
    DROPPED,
    EVERYTHING,
    HOUR_US,
    KEY,
    NOON_US,
    POOL,
    REMOVED,
    REPLAY_DROPPED,
    REPLAYED,
    ModelLane,
    ModelSink,
    Opener,
    Stored,
)

NAMES = ("a", "b", "c")
_sinks = st.sampled_from(NAMES)
_rows = st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=5)
_few = st.lists(st.integers(0, 30), max_size=2)
_picks = st.lists(st.integers(0, 30), min_size=1, max_size=6)


class JournalMachine(JournalChecks):
    """The steps; ``machine_for`` says whose journal."""

    @initialize(blocking=st.booleans())
    def begin(self, blocking: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        """Let one sink run from the start."""
        self.join("a", "now", blocking)

    @rule(statement=st.integers(1, 40), late=st.booleans())
    def die_in_the_next_step(self, statement: int, late: bool) -> None:  # noqa: FBT001 - drawn
        """Let the next operation crash at some statement."""
        self._crash_at = (statement, late)

    @rule(hours=st.integers(0, 2))
    def time_passes(self, hours: int) -> None:
        """Let the wall clock go on."""
        self.clock.wall_us += hours * HOUR_US + 1

    @rule(
        rows=_rows,
        reader=st.sampled_from([LIVE, "reconcile:600", "reconcile:72000"]),
        ahead=st.sampled_from([-HOUR_US, 0, 1, 5, HOUR_US]),
    )
    def append(self, rows: list[int], reader: str, ahead: int) -> None:
        """A reader brings a page."""
        self._append(rows, reader, NOON_US + ahead, LIVE, again=False)

    @precondition(lambda self: self._growing())
    @rule(rows=_rows, which=st.integers(0, 9), again=st.booleans())
    def append_to_backfill(self, rows: list[int], which: int, again: bool) -> None:  # noqa: FBT001 - drawn
        """A backfill brings a page."""
        lanes = self._growing()
        lane = lanes[which % len(lanes)]
        self._append(rows, lane, NOON_US, lane, again=again)

    def _append(
        self, rows: Sequence[int], reader: str, covered_us: int, lane: str, *, again: bool
    ) -> None:
        model, records = self.model, [POOL[n] for n in rows]
        known = set() if again else model.known(lane)
        new: list[int] = []
        for index, record in enumerate(records):
            if again or record.identity not in known:
                new.append(index)
                known.add(record.identity)
        addition = Addition(
            reader, ReaderState(covered_us), self.clock.wall_us, records, lane=lane, again=again
        )
        started = model.end

        def apply() -> None:
            model.readers[reader] = covered_us
            kept = self.kept(lane)
            found = [offset for offset in sorted(kept) if offset >= started]
            # Events of the forwarder's own may lie between the rows of the page.
            mine = [offset for offset in found if kept[offset][1] == KEY.stream]
            assert sorted(kept[o][0] for o in mine) == sorted(records[i].identity for i in new)
            times = {record.identity: record.time_us for record in records}
            for offset in mine:
                identity = kept[offset][0]
                model.stored[lane][offset] = Stored(identity, times[identity], self.clock.wall_us)
                model.owe(lane, offset)
            self._settle_end()

        appended = self.step(lambda: self.journal.stream_log(KEY).append(addition), apply)
        assert appended is None or list(appended.new) == new

    def _growing(self) -> list[str]:
        return [n for n, one in self.model.lanes.items() if one.kind == "backfill" and one.growing]

    def _running(self) -> list[str]:
        return [name for name, sink in self.model.sinks.items() if sink.running]

    @precondition(lambda self: len(self._running()) < len(NAMES))
    @rule(name=_sinks, start=st.sampled_from(["now", "beginning"]), blocking=st.booleans())
    def join(self, name: str, start: Any, blocking: bool) -> None:  # noqa: FBT001 - drawn
        """A sink joins, or comes back."""
        model = self.model
        if name in self._running():
            name = next(one for one in NAMES if one not in self._running())
        joined = model.end

        def apply() -> None:
            if name in model.sinks:
                model.sinks[name].running, model.sinks[name].blocking = True, blocking
                return
            model.sinks[name] = ModelSink(joined, blocking)
            for lane, one in model.lanes.items():
                if lane == LIVE or (one.kind == "backfill" and one.growing and not one.partial):
                    rows = model.stored[lane] if start == "beginning" else {}
                    first = min((o for o, row in rows.items() if row.kept), default=EVERYTHING)
                    units = {o: "wait" for o, row in rows.items() if row.kept and o >= first}
                    model.units[name, lane] = units

        def joins() -> Awaitable[SinkQueue]:
            return self.journal.sink_queue(name, start_at=start, blocking=blocking)

        queue = self.step(joins, apply)
        if queue is not None:
            self.queues[name] = queue

    @precondition(lambda self: self._running())
    @rule(which=st.integers(0, 9))
    def leave(self, which: int) -> None:
        """A sink leaves the settings."""
        running = self._running()
        name = running[which % len(running)]
        self.journal.leave(name)
        self.model.sinks[name].running = False
        self.queues.pop(name, None)

    @precondition(lambda self: any(not sink.running for sink in self.model.sinks.values()))
    @rule(which=st.integers(0, 9))
    def forget_sink(self, which: int) -> None:
        """An operator gives up an absent sink."""
        model = self.model
        absent = [name for name, sink in model.sinks.items() if not sink.running]
        name = absent[which % len(absent)]

        def apply() -> None:
            waiting = sum(
                len(model.waiting(name, lane))
                for lane, one in model.lanes.items()
                if one.kind != "letters"
            )
            travelling = sum(
                len(model.waiting(name, lane))
                for lane, one in model.lanes.items()
                if one.kind == "letters"
            )
            model.gaps[name, REMOVED] += waiting + travelling + len(model.letters[name])
            del model.sinks[name]
            model.letters.pop(name, None)
            for key in [key for key in model.units if key[0] == name]:
                del model.units[key]

        self.step(lambda: self.journal.forget_sink(name), apply)

    @precondition(lambda self: self.queues)
    @rule(
        which=st.integers(0, 9),
        lane=st.integers(0, 9),
        done=_picks,
        dead=st.lists(st.integers(0, 30), max_size=2),
    )
    def acknowledge(self, which: int, lane: int, done: list[int], dead: list[int]) -> None:
        """A sink acknowledges some rows of a lane, and refuses some."""
        model, names = self.model, list(self.queues)
        name = names[which % len(names)]
        lanes = self.run(awaited(self.queues[name].lanes()))
        chosen = lanes[lane % len(lanes)]
        waiting = model.waiting(name, chosen.name)
        some = {waiting[n % len(waiting)] for n in done if waiting}
        refused = {waiting[n % len(waiting)] for n in dead if waiting} - some
        settled = some | refused
        left = [offset for offset in waiting if offset not in settled]
        prefix = left[0] if left else (chosen.end_offset or model.end)
        ranges = tuple((offset, offset + 1) for offset in sorted(settled) if offset >= prefix)
        progress = chosen.progress.union(Progress(prefix, ranges))
        letters = [DeadLetter(offset, "refused") for offset in sorted(refused)]

        def apply() -> None:
            units = model.units[name, chosen.name]
            units.update(dict.fromkeys(some, "done"))
            units.update(dict.fromkeys(refused, "dead"))
            model.letters[name] |= refused
            if model.lanes[chosen.name].kind == "replay":
                units.update(dict.fromkeys(refused, "done"))

        queue = self.queues[name]
        self.step(lambda: queue.acknowledge(chosen.name, progress, letters), apply)

    @precondition(lambda self: self.queues)
    @rule(which=st.integers(0, 9), beyond=st.integers(1, 5))
    def acknowledge_what_was_never_stored(self, which: int, beyond: int) -> None:
        """A sink that remembers more than the journal has is refused, and nothing changes."""
        names = list(self.queues)
        queue = self.queues[names[which % len(names)]]
        try:
            self.run(awaited(queue.acknowledge(LIVE, Progress(self.model.end + beyond))))
        except StateError:
            return
        raise AssertionError("an acknowledgement beyond the stored rows was taken")

    @rule(sinks=st.lists(_sinks, max_size=2, unique=True))
    def open_backfill(self, sinks: list[str]) -> None:
        """An operator orders a backfill, for some sinks or for all."""
        model = self.model
        if not model.sinks or any(name not in model.sinks for name in sinks):
            return
        lane = self._name("backfill")

        def apply() -> None:
            readers = sinks or list(model.sinks)
            partial = set(readers) != set(model.sinks)
            model.lanes[lane] = ModelLane("backfill", lane, partial)
            model.stored[lane] = {}
            for name in readers:
                model.units[name, lane] = {}

        self.step(lambda: self.journal.open_backfill(lane, {}, sinks), apply)

    @precondition(lambda self: self._growing())
    @rule(which=st.integers(0, 9))
    def close_lane(self, which: int) -> None:
        """A backfill is at its end."""
        lane = self._growing()[which % len(self._growing())]

        def apply() -> None:
            self.model.lanes[lane].growing = False
            self.model.readers.pop(lane, None)

        self.step(lambda: self.journal.close_lane(lane), apply)

    def _open_lanes(self) -> list[str]:
        return [
            name
            for name, one in self.model.lanes.items()
            if name != LIVE
            and not one.cancelled
            and (one.growing or any(self.model.waiting(s, name) for s in self.model.sinks))
        ]

    @precondition(lambda self: self._open_lanes())
    @rule(which=st.integers(0, 9))
    def cancel_lane(self, which: int) -> None:
        """An operator cancels a lane."""
        model = self.model
        lane = self._open_lanes()[which % len(self._open_lanes())]
        outcome: list[LaneCancelled] = []

        async def cancel() -> LaneCancelled:
            await self.journal.stop_lane(lane)
            return await self.journal.cancel_lane(lane)

        def apply() -> None:
            if not model.lanes[lane].cancelled:
                outcome.append(self._cancel(lane))

        # Once the lane is stopped, a crash only delays the rest until the next start.
        self._crash_at = None
        result = self.step(cancel, apply)
        assert [result] == outcome

    def _cancel(self, lane: str) -> LaneCancelled:
        model, one = self.model, self.model.lanes[lane]
        one.cancelled, one.growing = True, False
        model.readers.pop(lane, None)
        readers = [sink for sink, name in model.units if name == lane]
        again = lost = returned = 0
        bound = model.read_by_all()
        for offset in sorted({o for s in readers for o in model.waiting(s, lane)}):
            row = model.stored[one.pages_of][offset]
            waits = [s for s in readers if model.units[s, lane].get(offset) == "wait"]
            if one.kind == "letters":
                model.letters[waits[0]].add(offset)
                model.units[waits[0], lane][offset] = "dead"
                returned += 1
                continue
            received = any(
                model.units[s, lane].get(offset) in {"done", "dead", DISCARDED, REPLAYED}
                for s in readers
            )
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

    @rule(which=st.integers(0, 9), back=st.integers(0, 3))
    def replay(self, which: int, back: int) -> None:
        """An operator replays what is kept."""
        model, since = self.model, self.clock.wall_us - back * HOUR_US
        if not model.sinks:
            return
        name = list(model.sinks)[which % len(model.sinks)]
        rows = {o: row for o, row in model.stored[LIVE].items() if row.kept}
        first = min((o for o, row in rows.items() if row.seen_us >= since), default=None)
        if first is None:
            return
        lane = self._name("replay")
        units = [o for o in rows if o >= first]

        def apply() -> None:
            model.lanes[lane] = ModelLane("replay", LIVE, partial=True, growing=False)
            model.units[name, lane] = dict.fromkeys(units, "wait")

        count = self.step(lambda: self.journal.replay(lane, name, since), apply)
        assert count is None or count == len(units)

    @precondition(lambda self: any(self.model.letters.values()))
    @rule(which=st.integers(0, 9), some=st.booleans(), drop=st.booleans())
    def settle_letters(self, which: int, some: bool, drop: bool) -> None:  # noqa: FBT001 - drawn
        """An operator replays or discards dead letters, all or one."""
        model = self.model
        names = [one for one, letters in model.letters.items() if letters]
        name = names[which % len(names)]
        stored = self.run(awaited(self.journal.letters(sink=name)))
        chosen = stored[:1] if some else stored
        ids = [letter.id for letter in chosen] if some else None
        offsets = [letter.offset for letter in chosen]
        reason = DISCARDED if drop else REPLAYED
        lane = self._name("replay")

        def forget() -> None:
            for offset in offsets:
                model.letters[name].discard(offset)
                for (sink, _), units in model.units.items():
                    if sink == name and units.get(offset) == "dead":
                        units[offset] = reason

        def replayed() -> None:
            forget()
            model.lanes[lane] = ModelLane("letters", lane, partial=True, growing=False)
            kept = self.kept(lane)
            assert sorted(i for i, _ in kept.values()) == sorted(
                bytes.fromhex(letter.event_id) for letter in chosen
            )
            times = {bytes.fromhex(letter.event_id): letter.time_us for letter in chosen}
            model.stored[lane] = {
                o: Stored(i, times[i], self.clock.wall_us) for o, (i, _) in kept.items()
            }
            model.units[name, lane] = dict.fromkeys(kept, "wait")
            self._settle_end()

        if drop:
            self.step(lambda: self.journal.drop_letters(name, ids), forget)
        else:
            self.step(lambda: self.journal.replay_letters(lane, name, ids), replayed)

    @precondition(lambda self: LIVE in self.model.readers)
    @rule(ahead=st.sampled_from([-HOUR_US, 0, 2, 3 * HOUR_US]))
    def move_cursor(self, ahead: int) -> None:
        """An operator moves the live position."""
        model = self.model
        to_us = min(NOON_US + ahead, self.clock.wall_us)

        def apply() -> None:
            forward = to_us > model.readers[LIVE]
            model.readers[LIVE] = to_us
            for name, at in model.readers.items():
                if forward and name.startswith("reconcile:"):
                    model.readers[name] = max(at, to_us)

        self.step(lambda: self.journal.move_cursor(KEY, NOON_US + ahead), apply)

    @rule()
    def maintain(self) -> None:
        """Retention empties what is old or in the way."""

        def apply() -> None:
            model = self.model
            gone = {
                (lane, offset)
                for lane, rows in model.stored.items()
                for kept in (self.kept(lane),)
                for offset, row in rows.items()
                if row.kept and offset not in kept
            }
            for lane, offset in gone:
                model.stored[lane][offset].kept = False
                for (sink, name), units in model.units.items():
                    if model.lanes[name].pages_of == lane and units.get(offset) == "wait":
                        self._emptied(sink, name, offset)

        self.step(self.journal.maintain, apply)

    def _emptied(self, sink: str, lane: str, offset: int) -> None:
        model, known = self.model, self.model.sinks[sink]
        kind = model.lanes[lane].kind
        if kind == "letters":
            model.letters[sink].add(offset)
            model.units[sink, lane][offset] = "dead"
        elif not known.running:
            model.lose(sink, lane, offset, REMOVED)
        elif kind == "replay":
            model.lose(sink, lane, offset, REPLAY_DROPPED)
        else:
            assert not known.blocking, "a blocking sink's rows were emptied"
            model.lose(sink, lane, offset, DROPPED)

    @rule()
    def restart(self) -> None:
        """The process ends and starts again."""
        self._reopen()
        self._discover()

    def _name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}:{self.names}"


def machine_for(make: Callable[[], Opener]) -> type[JournalMachine]:
    """Return the machine for an engine; ``make`` gives an opener of new, empty storage."""
    return type("Machine", (JournalMachine,), {"make": staticmethod(make)})
