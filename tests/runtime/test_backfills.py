"""Backfills of a real journal, whose readers find nobody at the address of the API."""

from __future__ import annotations

from forwarder.runtime.cell import Seat
from forwarder.runtime.replica import Replica

WINDOW: dict[str, int | str] = {
    "since_us": 1_796_040_000_000_000,
    "until_us": 1_796_040_060_000_000,
}


async def test_of_two_lanes_that_begin_alike_only_the_one_that_was_named_is_read(
    replica: Replica, seat: Seat
) -> None:
    cell = seat.expect()
    await cell.streams.start(replica.settings.accounts, poll=False)
    for lane in ("backfill:1", "backfill:12"):
        await cell.journal.open_backfill(lane, WINDOW, [])
    begun = await cell.backfills.begin(WINDOW | {"lane": "backfill:1"})
    read = {one["lane"] for one in cell.backfills.states()}

    assert ("backfill:1", {"backfill:1"}) == (begun["lane"], read)


async def test_a_backfill_that_is_over_has_no_more_rows_when_it_is_begun_again(
    replica: Replica, seat: Seat
) -> None:
    cell, lane = seat.expect(), {"lane": "backfill:1"}
    await cell.streams.start(replica.settings.accounts, poll=False)
    await cell.journal.open_backfill(lane["lane"], WINDOW, [])
    await cell.journal.stop_lane(lane["lane"])
    await cell.journal.cancel_lane(lane["lane"])
    await cell.backfills.begin(WINDOW | lane)

    assert {**lane, "rows": 0} == await cell.backfills.rows(lane)
