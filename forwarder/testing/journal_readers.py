"""What readers of a stream do to a journal: pages, positions, key sets, time that passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from forwarder.core.contracts import LIVE, Window
from forwarder.core.log import Addition, KeySet, ReaderState
from forwarder.testing.journal_checks import JournalChecks, aliases_of
from forwarder.testing.journal_crash import HOUR_US, NOON_US
from forwarder.testing.journal_model import ALIASES, KEY, POOL, Stored

_READERS = [LIVE, "reconcile:600", "reconcile:72000"]
_DAY_US = 24 * HOUR_US
rows_of_a_page = st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=5)


class ReaderRules(JournalChecks):
    """The steps of pollers, and of the clock."""

    asked: Sequence[KeySet] = ()

    @rule(hours=st.integers(0, 2))
    def time_passes(self, hours: int) -> None:
        """Let the wall clock go on."""
        self.clock.wall_us += hours * HOUR_US + 1

    @precondition(lambda self: self.clock.wall_us < NOON_US + _DAY_US)
    @rule(hours=st.sampled_from([23, 30, 80]))
    def days_pass(self, hours: int) -> None:
        """Let every reader read the next days, in which nothing happened; retention continues."""
        self.clock.wall_us += 3 * _DAY_US
        for name in list(self.model.readers):
            lane = name if name in self.model.lanes else LIVE
            self.bring([], name, ReaderState(NOON_US + hours * HOUR_US), lane)
        self.maintain()

    def maintain(self) -> None:
        """Let retention do its work; a rule of the machine."""
        raise NotImplementedError

    @rule()
    def ask_for_a_page(self) -> None:
        """Remember which key sets were known when a page was asked for."""
        self.asked = self.run(self._key_sets())

    async def _key_sets(self) -> Sequence[KeySet]:
        return await self.journal.key_sets(KEY)

    @rule(
        rows=rows_of_a_page,
        reader=st.sampled_from(_READERS),
        ahead=st.sampled_from([-HOUR_US, 0, 1, 5, HOUR_US]),
        window=st.sampled_from([None, None, (4 * HOUR_US, None), (HOUR_US, 3)]),
        stale=st.booleans(),
    )
    def append(
        self,
        rows: list[int],
        reader: str,
        ahead: int,
        window: tuple[int, int | None] | None,
        stale: bool,  # noqa: FBT001 - drawn
    ) -> None:
        """A reader brings a page, at the end of its round or within it."""
        state = ReaderState(NOON_US + ahead)
        if window is not None:
            until, reached = window
            state = replace(
                state,
                window=Window(state.covered_until_us, state.covered_until_us + until),
                reached_us=None if reached is None else state.covered_until_us + reached,
            )
        self.bring(rows, reader, state, LIVE, known=self.asked if stale else None)

    @precondition(lambda self: self.growing())
    @rule(rows=rows_of_a_page, which=st.integers(0, 2), again=st.booleans())
    def append_to_backfill(self, rows: list[int], which: int, again: bool) -> None:  # noqa: FBT001 - drawn
        """A backfill brings a page."""
        lanes = self.growing()
        lane = lanes[which % len(lanes)]
        self.bring(rows, lane, ReaderState(NOON_US), lane, again=again)

    def bring(
        self,
        rows: Sequence[int],
        reader: str,
        state: ReaderState,
        lane: str,
        *,
        again: bool = False,
        known: Sequence[KeySet] | None = None,
    ) -> None:
        """Append a page, and do the same to the model."""
        model, records = self.model, [POOL[n] for n in rows]
        keys = {one.keys for one in records}
        before = model.key_sets if known is None else {one.keys for one in known}
        overtaken = not again and any(
            small < large for small in keys for large in model.key_sets - before
        )
        surely, perhaps = (set(), set()) if again else self._expected(rows, lane)
        addition = Addition(
            reader, state, self.clock.wall_us, records, aliases_of(records), known,
            new_keys=sorted(keys - model.key_sets, key=sorted), lane=lane, again=again,
        )  # fmt: skip
        started = model.end

        def apply() -> None:
            if overtaken:
                return
            found = {o: kept for o, kept in self.kept(lane).items() if o >= started}
            # Events of the forwarder's own may lie between the rows of the page.
            mine = {offset: one for offset, (one, stream) in found.items() if stream == KEY.stream}
            stored = sorted(mine.values())
            if again:
                assert stored == sorted(one.identity for one in records)
            else:
                assert len(set(stored)) == len(stored)
                assert surely <= set(stored) <= surely | perhaps
            times = {record.identity: record.time_us for record in records}
            for offset, identity in sorted(mine.items()):
                model.stored[lane][offset] = Stored(identity, times[identity], self.clock.wall_us)
                model.owe(lane, offset)
            model.readers[reader] = replace(state, rows=len(mine))
            model.key_sets |= keys
            self.settle_end()

        appended = self.step(lambda: self.journal.stream_log(KEY).append(addition), apply)
        if appended is not None:
            assert appended.overtaken == overtaken
            assert appended.overtaken or appended.rows == len(appended.new)

    def _expected(self, rows: Sequence[int], lane: str) -> tuple[set[bytes], set[bytes]]:
        """Return the identities that must be stored of a page, and those that may be.

        A row whose identity may have gone of age is either: known, or stored once more.
        """
        sure, any_age = self.model.known(lane, old=False), self.model.known(lane, old=True)
        surely, perhaps = set[bytes](), set[bytes]()
        for identity in (POOL[n].identity for n in rows):
            names = {identity, *ALIASES.get(identity, ())}
            if names & sure:
                continue
            (perhaps if names & any_age else surely).add(identity)
            sure.add(identity)
        return surely, perhaps

    def growing(self) -> list[str]:
        """Return the backfills that are still read."""
        return [n for n, one in self.model.lanes.items() if one.kind == "backfill" and one.growing]

    @precondition(lambda self: self.model.readers.keys() - {LIVE})
    @rule(which=st.integers(0, 2))
    def forget_reader(self, which: int) -> None:
        """A reader's work is done."""
        names = sorted(self.model.readers.keys() - {LIVE})
        name = names[which % len(names)]

        def apply() -> None:
            del self.model.readers[name]

        self.step(lambda: self.journal.stream_log(KEY).forget(name), apply)

    @precondition(lambda self: LIVE in self.model.readers)
    @rule(ahead=st.sampled_from([-HOUR_US, 0, 2, 3 * HOUR_US]))
    def move_cursor(self, ahead: int) -> None:
        """An operator moves the live position."""
        readers = self.model.readers
        to_us = min(NOON_US + ahead, self.clock.wall_us)

        def apply() -> None:
            forward = to_us > readers[LIVE].covered_until_us
            for name, one in readers.items():
                trails = name.startswith("reconcile:") and one.covered_until_us < to_us
                if name == LIVE or (forward and trails):
                    readers[name] = ReaderState(to_us, rows=one.rows)

        self.step(lambda: self.journal.move_cursor(KEY, NOON_US + ahead), apply)
