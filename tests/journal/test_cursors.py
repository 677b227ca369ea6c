"""Positions are listed in the order in which rows come of age."""

from tests.journal.conftest import KEY, NOON_US, Opener, addition


async def test_the_live_reader_comes_first_and_the_oldest_age_last(opened: Opener) -> None:
    journal = await opened()
    wanted = ["live", "reconcile:600", "reconcile:3600", "reconcile:72000"]
    for reader in reversed(wanted):
        await journal.stream_log(KEY).append(addition([], NOON_US, reader))

    assert [cursor.reader for cursor in await journal.cursors()] == wanted
