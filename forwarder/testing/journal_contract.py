"""What every journal must do, as tests. Subclass, bring an opener, and nothing else.

    class TestMyJournal(JournalContract):
        @pytest.fixture
        def opener(self) -> Iterator[Opener]:
            opener = MyOpener()
            yield opener
            opener.discard()

``journal_machine.machine_for`` gives the machine that belongs to it: the same journal under random
readers, sinks, operators and crashes, held against a model.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import orjson
import pytest

from forwarder.core.contracts import LIVE, Lost, Record, Window
from forwarder.core.errors import BadRequestError, StateError
from forwarder.core.identity import Identifier
from forwarder.core.journal import COUNTS, Journal, Keeping, Verdict
from forwarder.core.log import Addition, DeadLetter, Progress, ReaderState
from forwarder.core.telemetry import TelemetryEvent
from forwarder.testing.journal_crash import HOUR_US, NOON_US, Opener, WallClock
from forwarder.testing.journal_model import KEY

DAY_US = 24 * HOUR_US
Opened = Callable[..., Awaitable[Journal]]


def records(*times_us: int | None, first: int = 0) -> list[Record]:
    """Return one distinct row a time."""
    rows = [{"n": first + index, "at": time_us} for index, time_us in enumerate(times_us)]
    identities = Identifier(KEY.account_id, KEY.stream).identities(rows)
    return [
        Record(orjson.dumps(row), time_us, identity, frozenset(row))
        for row, time_us, identity in zip(rows, times_us, identities, strict=True)
    ]


def addition(rows: Sequence[Record], covered_us: int = NOON_US, reader: str = LIVE) -> Addition:
    """Return a page for the log, seen at noon."""
    return Addition(reader, ReaderState(covered_us), NOON_US, rows)


_ROWS = records(NOON_US, NOON_US + 1, NOON_US + 2)


async def verdict(journal: Journal, shown: Sequence[Record], sink: str = "siem") -> dict[str, int]:
    """Return the counts of a sink that are not 0."""
    found = (await journal.judge(KEY, shown, {}, [sink]))[sink]
    return {name: count for name in COUNTS if (count := getattr(found, name))}


class JournalContract:
    """True for every journal."""

    @pytest.fixture
    def clock(self) -> WallClock:
        """Return the wall clock that the journal is given; a test sets it."""
        return WallClock()

    @pytest.fixture
    def events(self) -> list[TelemetryEvent]:
        """Return what the journal has emitted."""
        return []

    @pytest.fixture
    async def opened(
        self, opener: Opener, clock: WallClock, events: list[TelemetryEvent]
    ) -> AsyncIterator[Opened]:
        """Return what opens the journal; all are closed after the test."""
        journals: list[Journal] = []

        async def open_(max_size: int = 2**30, keep_us: int = HOUR_US) -> Journal:
            keeping = Keeping(max_size, keep_us)
            journal = await opener.open(
                keeping, clock=clock, emit=events.append, wrap=lambda session: session
            )
            journals.append(journal)
            return journal

        yield open_
        for journal in journals:
            await journal.aclose()

    async def test_a_row_that_was_stored_is_not_stored_again(self, opened: Opened) -> None:
        log = (await opened()).stream_log(KEY)
        rows = records(NOON_US, NOON_US + 5, NOON_US + 5)

        first = await log.append(addition(rows))
        again = await log.append(addition(rows[1:]))

        assert [0, 1, 2] == list(first.new)
        assert [] == list(again.new)

    async def test_a_row_that_comes_twice_in_one_answer_is_stored_once(
        self, opened: Opened
    ) -> None:
        log = (await opened()).stream_log(KEY)
        first, second = records(NOON_US, NOON_US + 5)

        twice = await log.append(addition([first, second, first]))
        again = await log.append(addition([second, first]))

        assert [0, 1] == list(twice.new)
        assert [] == list(again.new)

    async def test_what_was_stored_is_known_after_a_restart(self, opened: Opened) -> None:
        journal = await opened()
        await journal.stream_log(KEY).append(addition(records(NOON_US)))
        await journal.aclose()

        log = (await opened()).stream_log(KEY)

        assert [] == list((await log.append(addition(records(NOON_US)))).new)

    async def test_a_readers_place_comes_back_as_it_was_stored(self, opened: Opened) -> None:
        journal = await opened()
        state = ReaderState(
            NOON_US, Window(NOON_US - 60, NOON_US), {"page": [1, "x"]}, 0, NOON_US - 9
        )
        await journal.stream_log(KEY).append(replace(addition([]), state=state))
        await journal.aclose()

        memory = await (await opened()).stream_log(KEY).load()

        assert {LIVE: state} == memory.readers

    async def test_a_reshaped_row_is_not_stored_but_counted(self, opened: Opened) -> None:
        log = (await opened()).stream_log(KEY)
        (old,) = records(NOON_US)
        (grown,) = records(NOON_US, first=7)
        await log.append(addition([old]))

        appended = await log.append(replace(addition([grown]), aliases={0: [old.identity]}))

        assert (0, 1) == (len(appended.new), appended.reshaped)

    async def test_a_loss_that_nobody_can_count_is_written_down_once(self, opened: Opened) -> None:
        journal = await opened()
        log, lost = journal.stream_log(KEY), Lost("instant_unreadable", 10, 20)

        await log.append(replace(addition([]), lost=[lost]))
        await log.append(replace(addition([]), lost=[replace(lost, until_us=30)]))
        await log.append(replace(addition([]), settled=True))
        await log.append(replace(addition([]), lost=[lost]))

        gaps = await journal.gaps()
        assert [(10, 30, True)] == [(g.since_us, g.until_us, g.closed_us is not None) for g in gaps]

    async def test_a_gap_is_told_to_the_sinks_when_it_opens_and_closes(
        self, opened: Opened
    ) -> None:
        journal = await opened()
        queue = await journal.sink_queue("s")
        log = journal.stream_log(KEY)

        await log.append(replace(addition([]), lost=[Lost("instant_unreadable", 10, 20)]))
        await log.append(replace(addition([]), settled=True))

        (lane,) = await queue.lanes()
        pages = await queue.read(lane.name, lane.progress.prefix, 100)
        events = [row["event"] for page in pages for row in page.rows]
        assert ["gap_opened", "gap_closed"] == events

    async def test_identities_stay_while_a_reader_may_be_shown_the_rows(
        self, opened: Opened, clock: WallClock
    ) -> None:
        journal = await opened()
        log = journal.stream_log(KEY)
        await log.append(addition(records(NOON_US)))
        await log.append(addition([], NOON_US - HOUR_US, "reconcile:3600"))
        clock.wall_us += 30 * DAY_US

        await journal.maintain()
        await journal.maintain()

        assert [] == list((await log.append(addition(records(NOON_US)))).new)

    async def test_a_day_behind_the_newest_reader_can_still_be_verified(
        self, opened: Opened, clock: WallClock
    ) -> None:
        journal = await opened()
        log = journal.stream_log(KEY)
        await log.append(addition(records(NOON_US)))
        await log.append(addition([], NOON_US + 25 * HOUR_US))
        clock.wall_us += 30 * DAY_US

        await journal.maintain()
        await journal.maintain()

        assert [] == list((await log.append(addition(records(NOON_US)))).new)

    async def test_a_wrong_local_clock_does_not_forget_identities(self, opened: Opened) -> None:
        """Rows seen by a machine that believed it was 1970 are known after its clock is set."""
        journal = await opened()
        log = journal.stream_log(KEY)
        stored = addition(records(NOON_US))
        await log.append(type(stored)(LIVE, stored.state, 0, stored.records))

        for _ in range(3):
            await journal.maintain()

        assert [] == list((await log.append(stored)).new)

    async def test_a_full_journal_drops_only_what_no_blocking_sink_holds(
        self, opened: Opened
    ) -> None:
        # Room for one of the rows and not for both.
        journal = await opened(max_size=60)
        blocking = await journal.sink_queue("keeps")
        await journal.sink_queue("drops", blocking=False)
        log = journal.stream_log(KEY)
        await log.append(addition(records(NOON_US)))
        await log.append(addition(records(NOON_US + 1, first=1)))

        await journal.maintain()
        held = await blocking.read(LIVE, 1, 10)
        await blocking.acknowledge(LIVE, Progress(2))
        await journal.maintain()

        gaps = [gap for gap in await journal.gaps() if gap.scope == "sink:drops"]
        assert [1, 2] == [page.first_offset for page in held]
        assert [("dropped_oldest", 1)] == [(gap.reason, gap.rows) for gap in gaps]

    async def test_a_dropped_row_in_flight_needs_no_dead_letter(self, opened: Opened) -> None:
        journal = await opened(max_size=60)
        queue = await journal.sink_queue("drops", blocking=False)
        log = journal.stream_log(KEY)
        await log.append(addition(records(NOON_US)))
        await log.append(addition(records(NOON_US + 1, first=1)))
        await journal.maintain()

        await queue.acknowledge(LIVE, Progress(2), [DeadLetter(1, "refused")])

        assert [] == await journal.letters()

    async def test_a_returning_sink_learns_what_it_missed(
        self, opened: Opened, clock: WallClock
    ) -> None:
        journal = await opened()
        await journal.sink_queue("away")
        journal.leave("away")
        log = journal.stream_log(KEY)
        await log.append(addition(records(NOON_US, NOON_US + 1)))
        clock.wall_us += 2 * HOUR_US
        await journal.maintain()

        await journal.sink_queue("away")

        assert [("sink:away", 2)] == [(g.scope, g.rows) for g in await journal.gaps()]

    async def test_a_sink_that_was_away_for_long_knows_how_much_it_missed(
        self, opened: Opened, clock: WallClock
    ) -> None:
        journal = await opened()
        await journal.sink_queue("away")
        journal.leave("away")
        log = journal.stream_log(KEY)
        await log.append(addition(records(NOON_US)))
        await log.append(addition([], NOON_US + 5 * DAY_US))
        clock.wall_us += 5 * DAY_US
        await journal.maintain()

        await journal.sink_queue("away")

        assert [("sink:away", 1)] == [(g.scope, g.rows) for g in await journal.gaps()]

    async def test_each_row_is_delivered_dead_waiting_or_missing(self, opened: Opened) -> None:
        journal = await opened()
        queue = await journal.sink_queue("siem")
        await journal.stream_log(KEY).append(addition(_ROWS))
        await queue.acknowledge(LIVE, Progress(3), [DeadLetter(2, "refused")])

        told = await verdict(journal, [*_ROWS, *records(NOON_US + 3, first=3)])

        assert told == {"shown": 4, "delivered": 1, "dead": 1, "waiting": 1, "missing": 1}

    async def test_rows_stored_before_a_sink_began_were_not_delivered_to_it(
        self, opened: Opened
    ) -> None:
        journal = await opened()
        await journal.stream_log(KEY).append(addition(_ROWS[:2]))
        await journal.sink_queue("siem", start_at="now")
        await journal.stream_log(KEY).append(addition(_ROWS[2:]))

        assert await verdict(journal, _ROWS) == {"shown": 3, "waiting": 1, "skipped": 2}

    async def test_rows_dropped_for_room_are_missing(self, opened: Opened) -> None:
        journal = await opened(max_size=60)
        queue = await journal.sink_queue("siem", blocking=False)
        for row in _ROWS:
            await journal.stream_log(KEY).append(addition([row]))
        await queue.acknowledge(LIVE, Progress(1, ((2, 3),)))
        await journal.maintain()

        assert await verdict(journal, _ROWS) == {
            "shown": 3,
            "delivered": 1,
            "waiting": 1,
            "missing": 1,
        }

    async def test_rows_that_went_while_a_sink_was_away_are_missing(
        self, opened: Opened, clock: WallClock
    ) -> None:
        journal = await opened()
        await journal.sink_queue("siem")
        journal.leave("siem")
        await journal.stream_log(KEY).append(addition(_ROWS))
        clock.wall_us += 2 * HOUR_US
        await journal.maintain()
        await journal.sink_queue("siem")

        assert await verdict(journal, _ROWS) == {"shown": 3, "missing": 3}

    async def test_discarded_dead_letters_were_not_delivered(self, opened: Opened) -> None:
        journal = await opened()
        queue = await journal.sink_queue("siem")
        await journal.stream_log(KEY).append(addition(_ROWS))
        await queue.acknowledge(LIVE, Progress(4), [DeadLetter(1, "a"), DeadLetter(2, "a")])
        await journal.drop_letters("siem", [1])

        told = await verdict(journal, _ROWS)

        assert told == {"shown": 3, "delivered": 1, "dead": 1, "skipped": 1}

    async def test_what_every_lane_refused_and_an_operator_dropped_was_not_delivered(
        self, opened: Opened
    ) -> None:
        journal = await opened()
        queue = await journal.sink_queue("siem")
        await journal.stream_log(KEY).append(addition(_ROWS))
        await queue.acknowledge(LIVE, Progress(4), [DeadLetter(1, "refused")])
        await journal.replay("replay:1", "siem", NOON_US)
        await journal.drop_letters("siem", None)
        await queue.acknowledge("replay:1", Progress(4), [DeadLetter(1, "refused")])
        await journal.drop_letters("siem", None)

        assert await verdict(journal, _ROWS) == {"shown": 3, "delivered": 2, "skipped": 1}

    async def test_a_replayed_dead_letter_waits_until_it_is_delivered(self, opened: Opened) -> None:
        journal = await opened()
        queue = await journal.sink_queue("siem")
        await journal.stream_log(KEY).append(addition(_ROWS))
        await queue.acknowledge(LIVE, Progress(4), [DeadLetter(1, "refused")])
        await journal.replay_letters("replay:1", "siem", None)
        before = await verdict(journal, _ROWS)
        await queue.acknowledge("replay:1", Progress(5))

        assert before == {"shown": 3, "delivered": 2, "waiting": 1}
        assert await verdict(journal, _ROWS) == {"shown": 3, "delivered": 3}

    async def test_dead_letters_whose_replay_is_cancelled_are_dead_letters_again(
        self,
        opened: Opened,
    ) -> None:
        journal = await opened()
        queue = await journal.sink_queue("siem")
        await journal.stream_log(KEY).append(addition(_ROWS))
        await queue.acknowledge(LIVE, Progress(4), [DeadLetter(1, "refused")])
        await journal.replay_letters("replay:1", "siem", None)
        await journal.stop_lane("replay:1")
        await journal.cancel_lane("replay:1")

        assert await verdict(journal, _ROWS) == {"shown": 3, "delivered": 2, "dead": 1}

    async def test_nobody_can_say_what_became_of_rows_whose_identities_are_gone(
        self, opened: Opened, clock: WallClock
    ) -> None:
        journal = await opened()
        log = journal.stream_log(KEY)
        await log.append(addition(_ROWS))
        await log.append(addition([], NOON_US + 5 * DAY_US))
        clock.wall_us += 5 * DAY_US
        await journal.maintain()
        later = records(NOON_US + 4 * DAY_US, first=9)

        told = await journal.judge(KEY, [*_ROWS, *later], {}, ["siem"])

        assert told["siem"] == Verdict(
            shown=4,
            forgotten=3,
            missing=1,
            first_missing_us=NOON_US + 4 * DAY_US,
            last_missing_us=NOON_US + 4 * DAY_US,
        )

    async def test_pages_of_a_time_are_found_in_order_as_long_as_none_can_be_gone(
        self, opened: Opened, clock: WallClock
    ) -> None:
        journal = await opened()
        for hour in (3, 1, 2, 1):
            page = addition(records(NOON_US + hour * HOUR_US, first=hour))
            await journal.stream_log(KEY).append(replace(page, again=True))
        window = Window(NOON_US + HOUR_US, NOON_US + 2 * HOUR_US)

        found = await journal.pages(KEY, window, 0) or []
        rest = await journal.pages(KEY, window, found[1].first_offset)
        none = await journal.pages(KEY, window, found[-1].end_offset)
        await journal.stream_log(KEY).append(addition([], NOON_US + 5 * DAY_US))
        clock.wall_us += 5 * DAY_US
        await journal.maintain()
        assert [1, 2, 1] == [page.rows[0]["n"] for page in found]
        assert (found[1:], []) == (rest, none)
        assert await journal.pages(KEY, window, 0) is None

    async def test_what_was_passed_over_is_forgotten_with_its_rows(
        self, opened: Opened, clock: WallClock
    ) -> None:
        journal = await opened()
        log = journal.stream_log(KEY)
        await log.append(addition(_ROWS))
        await journal.sink_queue("siem", start_at="now")
        await log.append(addition([], NOON_US + 5 * DAY_US))
        clock.wall_us += 5 * DAY_US
        await journal.maintain()

        assert await journal.passed_over("siem") == []

    async def test_the_live_reader_comes_first_and_the_oldest_age_last(
        self, opened: Opened
    ) -> None:
        journal = await opened()
        wanted = ["live", "reconcile:600", "reconcile:3600", "reconcile:72000"]
        for reader in reversed(wanted):
            await journal.stream_log(KEY).append(addition([], NOON_US, reader))

        assert [cursor.reader for cursor in await journal.cursors()] == wanted

    async def test_a_place_beyond_what_was_stored_is_refused(self, opened: Opened) -> None:
        journal = await opened()
        queue = await journal.sink_queue("siem")
        await journal.stream_log(KEY).append(addition(_ROWS))

        for beyond in (Progress(5), Progress(1, ((4, 6),))):
            with pytest.raises(StateError, match="start again from the journal"):
                await queue.acknowledge(LIVE, beyond)

        assert {"shown": 3, "waiting": 3} == await verdict(journal, _ROWS)

    async def test_nothing_is_stored_in_a_lane_that_is_over(self, opened: Opened) -> None:
        journal = await opened()
        await journal.sink_queue("siem")
        await journal.open_backfill("backfill:1", {}, [])
        await journal.stop_lane("backfill:1")

        with pytest.raises(StateError, match="is over"):
            await journal.stream_log(KEY).append(replace(addition(_ROWS), lane="backfill:1"))

        assert {"shown": 3, "missing": 3} == await verdict(journal, _ROWS)

    async def test_a_page_is_bounded_in_rows_and_bytes_but_for_one_large_row(
        self, opened: Opened
    ) -> None:
        journal = await opened()
        large = [
            orjson.dumps({"n": n, "x": f"{n}" * size}) for n, size in enumerate([9, 5 * 2**20, 9])
        ]
        rows = [replace_row(one, row) for one, row in zip(_ROWS, large, strict=True)]
        await journal.stream_log(KEY).append(addition(rows))
        await journal.stream_log(KEY).append(
            addition(records(*range(NOON_US, NOON_US + 2500), first=9))
        )

        pages = [page for at in (1, 2, 3, 4) for page in (await journal.read(LIVE, at, 1))[:1]]

        assert [1, 1, 1, 1000] == [page.count for page in pages]

    async def test_a_cursor_beyond_now_is_now(self, opened: Opened, clock: WallClock) -> None:
        journal = await opened()
        await journal.stream_log(KEY).append(addition(_ROWS))

        cursor = await journal.move_cursor(KEY, NOON_US + DAY_US)

        assert clock.wall_us == cursor.covered_until_us

    @pytest.mark.parametrize("to_us", [-62_135_596_800_000_000, 0, 253_402_300_799_000_000])
    async def test_a_moment_that_no_source_can_hold_is_refused(
        self, opened: Opened, to_us: int
    ) -> None:
        journal = await opened()
        await journal.stream_log(KEY).append(addition(_ROWS))

        with pytest.raises(BadRequestError, match="between 2000-01-01"):
            await journal.move_cursor(KEY, to_us)

        assert {LIVE: NOON_US} == {
            one.reader: one.covered_until_us for one in await journal.cursors()
        }


def replace_row(record: Record, row: bytes) -> Record:
    """Return the record with another body."""
    return record._replace(row=row)
