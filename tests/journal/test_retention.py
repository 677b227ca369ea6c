"""What need not be kept goes; what somebody may still need stays."""

import pytest

from forwarder.journal.retention import share_of_excess
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


@pytest.mark.parametrize(
    ("stored", "elsewhere", "room", "freed"),
    [(50, 0, 100, -50), (150, 0, 100, 50), (100, 100, 150, 25), (1, 299, 200, 1), (0, 300, 200, 0)],
)
def test_each_shard_frees_its_part_of_an_excess(
    stored: int, elsewhere: int, room: int, freed: int
) -> None:
    assert freed == share_of_excess(stored, elsewhere, room)


async def test_a_page_goes_when_all_readers_are_past_it(opened: Opener, clock: SetClock) -> None:
    journal = await opened()
    log = journal.stream_log(KEY)
    await log.append(addition(records(NOON_US, None)))
    await log.append(addition([], NOON_US + 5 * DAY_US))
    clock.wall_us += 5 * DAY_US

    await journal.maintain()

    assert [(0,)] == beside(journal, lambda c: c.execute("SELECT count(*) FROM page").fetchall())


@pytest.mark.parametrize(("awaited", "gaps"), [(["siem"], []), ([], ["sink_was_removed"])])
async def test_a_sink_that_only_another_replica_knows_loses_nothing(
    awaited: list[str], gaps: list[str], opened: Opener, clock: SetClock
) -> None:
    journal = await opened(keep_us=0)
    await journal.sink_queue("siem")
    await journal.stream_log(KEY).append(addition(records(NOON_US)))
    journal.leave("siem")
    clock.wall_us += DAY_US

    await journal.maintain(awaited=awaited)

    assert gaps == [gap.reason for gap in await journal.gaps()]
