"""Rows and positions go into the file together, and a row goes in once."""

from dataclasses import replace

from forwarder.core.contracts import LIVE, Lost, Window
from forwarder.core.log import ReaderState
from tests.journal.conftest import HOUR_US, KEY, NOON_US, Opener, addition, beside, records


async def test_a_row_that_was_stored_is_not_stored_again(opened: Opener) -> None:
    log = (await opened()).stream_log(KEY)
    rows = records(NOON_US, NOON_US + 5, NOON_US + 5)

    first = await log.append(addition(rows))
    again = await log.append(addition(rows[1:]))

    assert [0, 1, 2] == list(first.new)
    assert [] == list(again.new)


async def test_a_row_that_comes_twice_in_one_answer_is_stored_once(opened: Opener) -> None:
    log = (await opened()).stream_log(KEY)
    first, second = records(NOON_US, NOON_US + 5)

    twice = await log.append(addition([first, second, first]))
    again = await log.append(addition([second, first]))

    assert [0, 1] == list(twice.new)
    assert [] == list(again.new)


async def test_what_was_stored_is_known_after_a_restart(opened: Opener) -> None:
    journal = await opened()
    await journal.stream_log(KEY).append(addition(records(NOON_US)))
    await journal.aclose()

    log = (await opened()).stream_log(KEY)

    assert [] == list((await log.append(addition(records(NOON_US)))).new)


async def test_a_readers_place_comes_back_as_it_was_stored(opened: Opener) -> None:
    journal = await opened()
    state = ReaderState(NOON_US, Window(NOON_US - 60, NOON_US), {"page": [1, "x"]}, 0, NOON_US - 9)
    await journal.stream_log(KEY).append(replace(addition([]), state=state))
    await journal.aclose()

    memory = await (await opened()).stream_log(KEY).load()

    assert {LIVE: state} == memory.readers


async def test_late_future_and_timeless_rows_stretch_no_page(opened: Opener) -> None:
    journal = await opened()
    times = (NOON_US, NOON_US - 30 * HOUR_US, NOON_US + 50 * HOUR_US, None, NOON_US + 1)

    await journal.stream_log(KEY).append(addition(records(*times)))

    spans = beside(
        journal,
        lambda c: c.execute("SELECT count, timeless, tmax_us - tmin_us FROM page").fetchall(),
    )
    assert [(2, 0, 1), (1, 0, 0), (1, 0, 0), (1, 1, 0)] == spans


async def test_a_reshaped_row_is_not_stored_but_counted(opened: Opener) -> None:
    log = (await opened()).stream_log(KEY)
    (old,) = records(NOON_US)
    (grown,) = records(NOON_US, first=7)
    await log.append(addition([old]))

    appended = await log.append(replace(addition([grown]), aliases={0: [old.identity]}))

    assert (0, 1) == (len(appended.new), appended.reshaped)


async def test_a_loss_that_nobody_can_count_is_written_down_once(opened: Opener) -> None:
    journal = await opened()
    log, lost = journal.stream_log(KEY), Lost("instant_unreadable", 10, 20)

    await log.append(replace(addition([]), lost=[lost]))
    await log.append(replace(addition([]), lost=[replace(lost, until_us=30)]))
    await log.append(replace(addition([]), settled=True))
    await log.append(replace(addition([]), lost=[lost]))

    gaps = await journal.gaps()
    assert [(10, 30, True)] == [(g.since_us, g.until_us, g.closed_us is not None) for g in gaps]


async def test_a_gap_is_told_to_the_sinks_when_it_opens_and_closes(opened: Opener) -> None:
    journal = await opened()
    queue = await journal.sink_queue("s")
    log = journal.stream_log(KEY)

    await log.append(replace(addition([]), lost=[Lost("instant_unreadable", 10, 20)]))
    await log.append(replace(addition([]), settled=True))

    (lane,) = await queue.lanes()
    pages = await queue.read(lane.name, lane.progress.prefix, 100)
    events = [row["event"] for page in pages for row in page.rows]
    assert ["gap_opened", "gap_closed"] == events
