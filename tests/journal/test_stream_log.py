"""Rows and positions go into the file together, and a row goes in once."""

from tests.journal.conftest import HOUR_US, KEY, NOON_US, Opener, addition, beside, records


async def test_late_future_and_timeless_rows_stretch_no_page(opened: Opener) -> None:
    journal = await opened()
    times = (NOON_US, NOON_US - 30 * HOUR_US, NOON_US + 50 * HOUR_US, None, NOON_US + 1)

    await journal.stream_log(KEY).append(addition(records(*times)))

    spans = beside(
        journal,
        lambda c: c.execute("SELECT count, timeless, tmax_us - tmin_us FROM page").fetchall(),
    )
    assert [(2, 0, 1), (1, 0, 0), (1, 0, 0), (1, 1, 0)] == spans
