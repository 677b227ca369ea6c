"""What need not be kept goes; what somebody may still need stays."""

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


async def test_a_page_goes_when_all_readers_are_past_it(opened: Opener, clock: SetClock) -> None:
    journal = await opened()
    log = journal.stream_log(KEY)
    await log.append(addition(records(NOON_US, None)))
    await log.append(addition([], NOON_US + 5 * DAY_US))
    clock.wall_us += 5 * DAY_US

    await journal.maintain()

    assert [(0,)] == beside(journal, lambda c: c.execute("SELECT count(*) FROM page").fetchall())
