"""What an auditor is told of each row: never that it was delivered when it was not."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import LIVE, Record
from forwarder.core.journal import COUNTS, Verdict
from forwarder.core.log import DeadLetter, Progress
from forwarder.journal.database import SqliteEngine
from forwarder.journal.journal import SqliteJournal
from forwarder.journal.ledger import BEFORE_START, DISCARDED, note_passed, passed_by
from forwarder.journal.schema import prepare
from tests.journal.conftest import HOUR_US, KEY, NOON_US, Opener, SetClock, addition, records

DAY_US = 24 * HOUR_US
_ROWS = records(NOON_US, NOON_US + 1, NOON_US + 2)


async def verdict(
    journal: SqliteJournal, shown: Sequence[Record], sink: str = "siem"
) -> dict[str, int]:
    """Return the counts of a sink that are not 0."""
    found = (await journal.judge(KEY, shown, {}, [sink]))[sink]
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
    await journal.drop_letters("siem", [1])

    told = await verdict(journal, _ROWS)

    assert told == {"shown": 3, "delivered": 1, "dead": 1, "skipped": 1}


async def test_a_replayed_dead_letter_waits_until_it_is_delivered(opened: Opener) -> None:
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
    opened: Opener,
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
    opened: Opener, clock: SetClock
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

    assert await journal.passed_over("siem") == []


@given(calls=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.booleans()), max_size=9))
def test_of_each_offset_the_last_reason_is_known(calls: list[tuple[int, int, bool]]) -> None:
    said: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        engine = SqliteEngine(Path(folder))
        session = engine.writing()
        prepare(session, engine, 0)
        session.execute("INSERT INTO sink VALUES (1, 'siem', 0)")
        for start, length, discarded in calls:
            reason = DISCARDED if discarded else BEFORE_START
            note_passed(session, 1, 1, (start, start + length), reason)
            said.update(dict.fromkeys(range(start, start + length), reason))
        found = passed_by(session, "siem")
        session.close()

    shown = [(n, one.reason) for one in found for n in range(one.start, one.end)]
    assert shown == sorted(said.items())
