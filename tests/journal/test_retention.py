"""What need not be kept goes; what somebody may still need stays."""

from forwarder.core.contracts import LIVE
from forwarder.core.log import DeadLetter, Progress
from tests.journal.conftest import (
    HOUR_US,
    KEY,
    NOON_US,
    Opener,
    SetClock,
    addition,
    beside,
    records,
)

DAY_US = 24 * HOUR_US


async def test_identities_stay_while_a_reader_may_be_shown_the_rows(
    opened: Opener, clock: SetClock
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
    opened: Opener, clock: SetClock
) -> None:
    journal = await opened()
    log = journal.stream_log(KEY)
    await log.append(addition(records(NOON_US)))
    await log.append(addition([], NOON_US + 25 * HOUR_US))
    clock.wall_us += 30 * DAY_US

    await journal.maintain()
    await journal.maintain()

    assert [] == list((await log.append(addition(records(NOON_US)))).new)


async def test_a_wrong_local_clock_does_not_forget_identities(opened: Opener) -> None:
    """Rows seen by a machine that believed it was 1970 are known after its clock is set."""
    journal = await opened()
    log = journal.stream_log(KEY)
    stored = addition(records(NOON_US))
    await log.append(type(stored)(LIVE, stored.state, 0, stored.records))

    for _ in range(3):
        await journal.maintain()

    assert [] == list((await log.append(stored)).new)


async def test_a_page_goes_when_all_readers_are_past_it(opened: Opener, clock: SetClock) -> None:
    journal = await opened()
    log = journal.stream_log(KEY)
    await log.append(addition(records(NOON_US, None)))
    await log.append(addition([], NOON_US + 5 * DAY_US))
    clock.wall_us += 5 * DAY_US

    await journal.maintain()

    assert [(0,)] == beside(journal, lambda c: c.execute("SELECT count(*) FROM page").fetchall())


async def test_a_full_journal_drops_only_what_no_blocking_sink_holds(opened: Opener) -> None:
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


async def test_a_dropped_row_in_flight_needs_no_dead_letter(opened: Opener) -> None:
    journal = await opened(max_size=60)
    queue = await journal.sink_queue("drops", blocking=False)
    log = journal.stream_log(KEY)
    await log.append(addition(records(NOON_US)))
    await log.append(addition(records(NOON_US + 1, first=1)))
    await journal.maintain()

    await queue.acknowledge(LIVE, Progress(2), [DeadLetter(1, "refused")])

    assert [] == await journal.letters()


async def test_a_returning_sink_learns_what_it_missed(opened: Opener, clock: SetClock) -> None:
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
    opened: Opener, clock: SetClock
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
