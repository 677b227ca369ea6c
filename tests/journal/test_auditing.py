"""What an auditor is told of each row: never that it was delivered when it was not."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from importlib.resources import files

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import LIVE, Record
from forwarder.core.log import DeadLetter, Progress
from forwarder.journal import Journal
from forwarder.journal.auditing import COUNTS, Verdict, judge
from forwarder.journal.dead_letters import drop_letters, replay_letters
from forwarder.journal.lanes import cancel_lane
from forwarder.journal.ledger import BEFORE_START, Passed, note_passed, passed_by
from tests.journal.conftest import HOUR_US, KEY, NOON_US, Opener, SetClock, addition, records

DAY_US = 24 * HOUR_US
_ROWS = records(NOON_US, NOON_US + 1, NOON_US + 2)


async def verdict(journal: Journal, shown: Sequence[Record], sink: str = "siem") -> dict[str, int]:
    """Return the counts of a sink that are not 0."""
    found = (await journal.ask(lambda c: judge(c, KEY, shown, {}, [sink])))[sink]
    return {name: count for name in COUNTS if (count := getattr(found, name))}


async def test_each_row_is_delivered_dead_waiting_or_missing(opened: Opener) -> None:
    journal = await opened()
    queue = await journal.sink_queue("siem")
    await journal.stream_log(KEY).append(addition(_ROWS))
    await queue.acknowledge(LIVE, Progress(3), [DeadLetter(2, "refused")])

    told = await verdict(journal, [*_ROWS, *records(NOON_US + 3, first=3)])

    assert told == {"shown": 4, "delivered": 1, "dead": 1, "waiting": 1, "missing": 1}


async def test_rows_stored_before_a_sink_began_were_not_delivered_to_it(opened: Opener) -> None:
    journal = await opened()
    await journal.stream_log(KEY).append(addition(_ROWS[:2]))
    await journal.sink_queue("siem", start_at="now")
    await journal.stream_log(KEY).append(addition(_ROWS[2:]))

    assert await verdict(journal, _ROWS) == {"shown": 3, "waiting": 1, "skipped": 2}


async def test_rows_dropped_for_room_are_missing(opened: Opener) -> None:
    journal = await opened(max_size=60)
    queue = await journal.sink_queue("siem", blocking=False)
    for row in _ROWS:
        await journal.stream_log(KEY).append(addition([row]))
    await queue.acknowledge(LIVE, Progress(1, ((2, 3),)))
    await journal.maintain()

    assert await verdict(journal, _ROWS) == {"shown": 3, "delivered": 1, "waiting": 1, "missing": 1}


async def test_rows_that_went_while_a_sink_was_away_are_missing(
    opened: Opener, clock: SetClock
) -> None:
    journal = await opened()
    await journal.sink_queue("siem")
    journal.leave("siem")
    await journal.stream_log(KEY).append(addition(_ROWS))
    clock.wall_us += 2 * HOUR_US
    await journal.maintain()
    await journal.sink_queue("siem")

    assert await verdict(journal, _ROWS) == {"shown": 3, "missing": 3}


async def test_discarded_dead_letters_were_not_delivered(opened: Opener) -> None:
    journal = await opened()
    queue = await journal.sink_queue("siem")
    await journal.stream_log(KEY).append(addition(_ROWS))
    await queue.acknowledge(LIVE, Progress(4), [DeadLetter(1, "a"), DeadLetter(2, "a")])
    await journal.tell(lambda c: drop_letters(c, "siem", [1], NOON_US))

    told = await verdict(journal, _ROWS)

    assert told == {"shown": 3, "delivered": 1, "dead": 1, "skipped": 1}


async def test_a_replayed_dead_letter_waits_until_it_is_delivered(opened: Opener) -> None:
    journal = await opened()
    queue = await journal.sink_queue("siem")
    await journal.stream_log(KEY).append(addition(_ROWS))
    await queue.acknowledge(LIVE, Progress(4), [DeadLetter(1, "refused")])
    await journal.tell(lambda c: replay_letters(c, "replay:1", "siem", None, NOON_US))
    before = await verdict(journal, _ROWS)
    await queue.acknowledge("replay:1", Progress(5))

    assert before == {"shown": 3, "delivered": 2, "waiting": 1}
    assert await verdict(journal, _ROWS) == {"shown": 3, "delivered": 3}


async def test_a_replay_that_was_called_off_leaves_its_rows_missing(opened: Opener) -> None:
    journal = await opened()
    queue = await journal.sink_queue("siem")
    await journal.stream_log(KEY).append(addition(_ROWS))
    await queue.acknowledge(LIVE, Progress(4), [DeadLetter(1, "refused")])
    await journal.tell(lambda c: replay_letters(c, "replay:1", "siem", None, NOON_US))
    await journal.tell(lambda c: cancel_lane(c, "replay:1"))

    assert await verdict(journal, _ROWS) == {"shown": 3, "delivered": 2, "missing": 1}


async def test_nobody_can_say_what_became_of_rows_whose_identities_are_gone(
    opened: Opener, clock: SetClock
) -> None:
    journal = await opened()
    log = journal.stream_log(KEY)
    await log.append(addition(_ROWS))
    await log.append(addition([], NOON_US + 5 * DAY_US))
    clock.wall_us += 5 * DAY_US
    await journal.maintain()
    later = records(NOON_US + 4 * DAY_US, first=9)

    told = await journal.ask(lambda c: judge(c, KEY, [*_ROWS, *later], {}, ["siem"]))

    assert told["siem"] == Verdict(
        shown=4,
        forgotten=3,
        missing=1,
        first_missing_us=NOON_US + 4 * DAY_US,
        last_missing_us=NOON_US + 4 * DAY_US,
    )


async def test_what_was_passed_over_is_forgotten_with_its_rows(
    opened: Opener, clock: SetClock
) -> None:
    journal = await opened()
    log = journal.stream_log(KEY)
    await log.append(addition(_ROWS))
    await journal.sink_queue("siem", start_at="now")
    await log.append(addition([], NOON_US + 5 * DAY_US))
    clock.wall_us += 5 * DAY_US
    await journal.maintain()

    assert await journal.ask(lambda c: passed_by(c, "siem")) == []


_ranges = st.lists(st.integers(0, 40), max_size=8, unique=True).map(
    lambda cuts: list(zip(*[iter(sorted(cuts))] * 2, strict=False))
)


@given(done=_ranges, calls=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=4))
def test_exactly_what_was_not_done_was_passed_over(
    done: list[tuple[int, int]], calls: list[tuple[int, int]]
) -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(files("forwarder.journal").joinpath("schema.sql").read_text())
    connection.execute("INSERT INTO sink VALUES (1, 'siem', 0)")
    wanted: set[int] = set()
    place = 0
    for gap, length in calls:
        start, place = place + gap, place + gap + length
        note_passed(connection, 1, Passed(1, start, place, BEFORE_START), done)
        wanted |= {*range(start, place)} - {n for a, b in done for n in range(a, b)}
    found = [n for one in passed_by(connection, "siem") for n in range(one.start, one.end)]
    connection.close()

    assert found == sorted(wanted)
