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

from forwarder.core.contracts import FORWARDER_STREAM, LIVE
from forwarder.core.errors import StateError
from forwarder.core.journal import LaneCancelled
from forwarder.core.log import EXPECTED_REFUSAL, DeadLetter, Progress, ReaderState, SinkQueue
from forwarder.testing.journal_checks import awaited
from forwarder.testing.journal_crash import HOUR_US, NOON_US, Opener
from forwarder.testing.journal_model import (
    DISCARDED,
    DROPPED,
    EVERYTHING,
    KEY,
    POOL,
    REMOVED,
    REPLAY_DROPPED,
    REPLAYED,
    ModelLane,
    ModelSink,
    Stored,
)
from forwarder.testing.journal_readers import ReaderRules, rows_of_a_page

NAMES = ("a", "b", "c")
_sinks = st.sampled_from(NAMES)
_some_sinks: st.SearchStrategy[list[str]] = st.just([]) | st.lists(_sinks, max_size=2, unique=True)
_picks = st.none() | st.lists(st.integers(0, 30), min_size=1, max_size=6)


class JournalMachine(ReaderRules):
    """The steps; ``machine_for`` says whose journal."""

    @initialize(blocking=st.booleans(), two=st.booleans())
    def begin(self, blocking: bool, two: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        """Let one sink run from the start, or two."""
        self.join("a", "now", blocking)
        if two:
            self.join("b", "now", not blocking)

    @rule(statement=st.integers(1, 40), late=st.booleans())
    def die_in_the_next_step(self, statement: int, late: bool) -> None:  # noqa: FBT001 - drawn
        """Let the next operation crash at some statement."""
        self._crash_at = (statement, late)

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
    @rule(which=st.integers(0, 9), for_long=st.booleans())
    def leave(self, which: int, for_long: bool) -> None:  # noqa: FBT001 - drawn
        """A sink leaves the settings, maybe for longer than its rows are kept."""
        running = self._running()
        self._leave(running[which % len(running)], for_long=for_long)

    def _leave(self, name: str, *, for_long: bool) -> None:
        self.journal.leave(name)
        self.model.sinks[name].running = False
        self.queues.pop(name, None)
        if for_long:
            self.clock.wall_us += 2 * HOUR_US
            self.maintain()

    @precondition(lambda self: any(not sink.running for sink in self.model.sinks.values()))
    @rule(which=st.integers(0, 9))
    def forget_sink(self, which: int) -> None:
        """An operator gives up an absent sink."""
        model = self.model
        absent = [name for name, sink in model.sinks.items() if not sink.running]
        name = absent[which % len(absent)]

        def apply() -> None:
            waiting = sum(len(model.waiting(name, lane)) for lane in model.lanes)
            model.gaps[name, REMOVED] += waiting + len(model.letters.pop(name, ()))
            model.travelling.pop(name, None)
            del model.sinks[name]
            for key in [key for key in model.units if key[0] == name]:
                del model.units[key]

        self.step(lambda: self.journal.forget_sink(name), apply)

    @precondition(lambda self: self._places())
    @rule(
        which=st.integers(0, 9),
        done=_picks,
        dead=st.lists(st.integers(0, 9), max_size=3),
        expected=st.booleans(),
    )
    def acknowledge(
        self,
        which: int,
        done: list[int] | None,
        dead: list[int],
        expected: bool,  # noqa: FBT001 - drawn
    ) -> None:
        """A sink acknowledges some rows of a lane or all (None), and refuses some."""
        places = self._places()
        self._acknowledge(*places[which % len(places)], done, dead, expected=expected)

    def _places(self) -> list[tuple[str, str]]:
        """Return the sinks and lanes in which something waits for a running sink."""
        running = (key for key in self.model.units if key[0] in self.queues)
        return [key for key in running if self.model.waiting(*key)]

    def _acknowledge(
        self,
        name: str,
        lane: str,
        done: Sequence[int] | None,
        dead: Sequence[int],
        *,
        expected: bool,
    ) -> None:
        model, queue = self.model, self.queues[name]
        waiting = model.waiting(name, lane)
        refused = {waiting[n % len(waiting)] for n in dead if waiting}
        some = set(waiting) if done is None else {waiting[n % len(waiting)] for n in done}
        settled = some | refused
        some -= refused
        left = [offset for offset in waiting if offset not in settled]
        known = {one.name: one for one in self.run(awaited(queue.lanes()))}
        ranges = tuple((offset, offset + 1) for offset in sorted(settled))
        # A lane that was stopped is not shown any more, but writes in flight still settle.
        progress = Progress(0, ranges)
        if lane in known:
            prefix = left[0] if left else (known[lane].end_offset or model.end)
            progress = known[lane].progress.union(progress).union(Progress(prefix))
        why = f"{EXPECTED_REFUSAL if expected else ''}refused"
        letters = [DeadLetter(offset, why) for offset in sorted(refused)]

        def apply() -> None:
            model.units[name, lane].update(dict.fromkeys(some, "done"))
            for offset in some:
                model.travelling[name].pop(offset, None)
            model.refuse(name, lane, dict.fromkeys(refused, expected))

        self.step(lambda: queue.acknowledge(lane, progress, letters), apply)

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

    @precondition(lambda self: self.model.sinks)
    @rule(sinks=_some_sinks, rows=st.just([]) | rows_of_a_page, again=st.booleans())
    def open_backfill(self, sinks: list[str], rows: list[int], again: bool) -> None:  # noqa: FBT001 - drawn
        """An operator orders a backfill, for some sinks or for all."""
        self._open_backfill(sinks, rows, again=again)

    @precondition(lambda self: self.model.sinks)
    @rule(
        sinks=_some_sinks,
        rows=st.lists(st.integers(0, 30), min_size=2, max_size=5),
        received=st.sampled_from([(), (0,), None]),
        end=st.sampled_from(["close", "cancel", "read"]),
    )
    def backfill_in_short(
        self, sinks: list[str], rows: list[int], received: Sequence[int] | None, end: str
    ) -> None:
        """A backfill finds new rows, one sink receives some or all, and something ends it.

        Or the live reader finds the same rows.
        """
        known = self.model.known(LIVE, old=True)
        new = [n for n, one in enumerate(POOL) if one.identity not in known]
        pool = new or range(len(POOL))
        rows = [pool[n % len(pool)] for n in rows]
        lane = self._open_backfill(sinks, rows, again=False)
        for place in [key for key in self._places() if key[1] == lane][:1]:
            self._acknowledge(*place, received, (), expected=False)
        if end == "read":
            self.bring(rows, LIVE, ReaderState(NOON_US), LIVE)
        elif lane in self.growing():
            self._close_lane(lane) if end == "close" else self._stop_lane(lane, at_once=True)

    def _open_backfill(self, sinks: list[str], rows: Sequence[int], *, again: bool) -> str:
        """Open a backfill that brings a page; return its lane."""
        model = self.model
        sinks = [name for name in sinks if name in model.sinks]
        lane = self._name("backfill")

        def apply() -> None:
            readers = sinks or list(model.sinks)
            partial = set(readers) != set(model.sinks)
            model.lanes[lane] = ModelLane("backfill", lane, partial)
            model.stored[lane] = {}
            for name in readers:
                model.units[name, lane] = {}

        self.step(lambda: self.journal.open_backfill(lane, {}, sinks), apply)
        if rows and lane in model.lanes:
            self.bring(rows, lane, ReaderState(NOON_US), lane, again=again)
        return lane

    @precondition(lambda self: self.growing())
    @rule(which=st.integers(0, 9))
    def close_lane(self, which: int) -> None:
        """A backfill is at its end."""
        self._close_lane(self.growing()[which % len(self.growing())])

    def _close_lane(self, lane: str) -> None:
        def apply() -> None:
            self.model.lanes[lane].growing = False
            self.model.readers.pop(lane, None)

        self.step(lambda: self.journal.close_lane(lane), apply)

    def _open_lanes(self) -> list[str]:
        return [
            name
            for name, one in self.model.lanes.items()
            if name != LIVE
            and not (one.cancelled or one.stopped)
            and (one.growing or any(self.model.waiting(s, name) for s in self.model.sinks))
        ]

    @precondition(lambda self: self._open_lanes())
    @rule(which=st.integers(0, 9), at_once=st.booleans())
    def stop_lane(self, which: int, at_once: bool) -> None:  # noqa: FBT001 - drawn
        """An operator cancels a lane; before it is settled, anything else may happen."""
        self._stop_lane(self._open_lanes()[which % len(self._open_lanes())], at_once=at_once)

    def _stop_lane(self, lane: str, *, at_once: bool) -> None:
        def apply() -> None:
            self.model.lanes[lane].growing, self.model.lanes[lane].stopped = False, True
            self.model.readers.pop(lane, None)

        self.step(lambda: self.journal.stop_lane(lane), apply)
        if at_once and self.model.lanes[lane].stopped:
            self._cancel_lane(lane)

    @precondition(lambda self: any(one.stopped for one in self.model.lanes.values()))
    @rule()
    def cancel_lane(self) -> None:
        """What a stopped lane had in flight has come to its end."""
        self._cancel_lane(next(n for n, one in self.model.lanes.items() if one.stopped))

    def _cancel_lane(self, lane: str) -> None:
        outcome: list[LaneCancelled] = []
        model, known = self.model, self.model.known(LIVE, old=True)
        result = self.step(
            lambda: self.journal.cancel_lane(lane), lambda: outcome.append(self.cancel(lane))
        )
        assert result is None or [result] == outcome
        again = [
            n for n, one in enumerate(POOL) if one.identity in known - model.known(LIVE, old=True)
        ]
        if again:  # a reader finds what was forgotten
            self.bring(again, LIVE, ReaderState(NOON_US + 5 * HOUR_US), LIVE)

    @rule(which=st.integers(0, 9), back=st.integers(0, 3), quiet=st.booleans())
    def replay(self, which: int, back: int, quiet: bool = False) -> None:  # noqa: FBT001, FBT002 - drawn
        """An operator replays what is kept; before it, every sink may get what it waits for."""
        for place in self._places() if quiet else ():
            self._acknowledge(*place, None, (), expected=False)
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
        names = [one for one, letters in self.model.letters.items() if letters]
        self._settle_letters(names[which % len(names)], some=some, drop=drop)

    @precondition(lambda self: self._places())
    @rule(which=st.integers(0, 9), cancelled=st.booleans())
    def replay_letters_in_vain(self, which: int, cancelled: bool) -> None:  # noqa: FBT001 - drawn
        """A refused row is replayed, but the replay is cancelled or the sink leaves for long."""
        places = self._places()
        name, lane = places[which % len(places)]
        self._acknowledge(name, lane, (), [which], expected=False)
        if not self.model.letters[name]:  # the process died before that
            return
        lane = self._settle_letters(name, some=False, drop=False)
        if not cancelled:
            self._leave(name, for_long=True)
        elif lane in self.model.lanes:
            self._stop_lane(lane, at_once=True)

    def _settle_letters(self, name: str, *, some: bool, drop: bool) -> str:
        """Replay or discard; return the replay's lane."""
        model = self.model
        stored = self.run(awaited(self.journal.letters(sink=name)))
        some = some or len({one.event_id for one in stored}) < len(stored)
        chosen = stored[:1] if some else stored
        ids = [letter.id for letter in chosen] if some else None
        lane = self._name("replay")

        def dropped() -> None:
            for letter in chosen:
                model.settle_letter(name, letter.offset, DISCARDED)

        def replayed() -> None:
            mine = {
                bytes.fromhex(one.event_id): model.settle_letter(name, one.offset, REPLAYED)
                for one in chosen
            }
            model.lanes[lane] = ModelLane("letters", lane, partial=True, growing=False)
            kept = self.kept(lane)
            assert sorted(i for i, _ in kept.values()) == sorted(mine)
            model.travelling[name] |= {o: mine[identity] for o, (identity, _) in kept.items()}
            times = {bytes.fromhex(letter.event_id): letter.time_us for letter in chosen}
            model.stored[lane] = {
                o: Stored(i, times[i], self.clock.wall_us, own=stream == FORWARDER_STREAM)
                for o, (i, stream) in kept.items()
            }
            model.units[name, lane] = dict.fromkeys(kept, "wait")
            self.settle_end()

        if drop:
            self.step(lambda: self.journal.drop_letters(name, ids), dropped)
        else:
            self.step(lambda: self.journal.replay_letters(lane, name, ids), replayed)
        return lane

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
            model.grow_old(self.clock.wall_us)

        self.step(self.journal.maintain, apply)

    def _emptied(self, sink: str, lane: str, offset: int) -> None:
        model, known = self.model, self.model.sinks[sink]
        kind = model.lanes[lane].kind
        if kind == "letters":
            model.give_back(sink, lane, offset)
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

    @rule()
    def tell(self) -> None:
        """The forwarder stores an event of its own."""
        own = [{"event": "reloaded", "n": self.names}]
        self.names += 1
        self.step(lambda: self.journal.append_own(KEY.account_id, own), lambda: None)

    def _name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}:{self.names}"


def machine_for(make: Callable[[], Opener]) -> type[JournalMachine]:
    """Return the machine for an engine; ``make`` gives an opener of new, empty storage."""
    return type("Machine", (JournalMachine,), {"make": staticmethod(make)})
