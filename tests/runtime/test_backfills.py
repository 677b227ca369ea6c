"""Backfills of a real journal, whose readers find nobody at the address of the API."""

from __future__ import annotations

from forwarder.runtime.cell import Seat
from forwarder.runtime.replica import Replica


async def test_of_two_lanes_that_begin_alike_only_the_one_that_was_named_is_read(
    replica: Replica, seat: Seat
) -> None:
    cell, window = (
        seat.expect(),
        {"since_us": 1_796_040_000_000_000, "until_us": 1_796_040_060_000_000},
    )
    await cell.streams.start(replica.settings.accounts, poll=False)
    for lane in ("backfill:1", "backfill:12"):
        await cell.journal.open_backfill(lane, window, [])
    begun = await cell.backfills.begin({**window, "lane": "backfill:1"})
    read = {one["lane"] for one in cell.backfills.states()}

    assert ("backfill:1", {"backfill:1"}) == (begun["lane"], read)
