"""What an audit reports of each row: never that it was delivered when it was not."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import Window
from forwarder.core.journal import Verdict
from forwarder.journal.database import SqliteEngine
from forwarder.journal.ledger import BEFORE_START, DISCARDED, note_passed, passed_by
from forwarder.journal.schema import prepare
from tests.journal.conftest import HOUR_US, KEY, NOON_US, Opener, addition, records


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


async def test_rows_that_no_poll_can_have_read_yet_are_waiting(opened: Opener) -> None:
    journal = await opened()
    rows = records(*(NOON_US + hour * HOUR_US for hour in range(5)))
    await journal.sink_queue("siem")
    await journal.stream_log(KEY).append(addition(rows[:2]))

    told = await journal.judge(KEY, rows, {}, ["siem"], NOON_US + 3 * HOUR_US)

    first_us, last_us = rows[2].time_us, rows[3].time_us
    assert told["siem"] == Verdict(
        shown=5, waiting=3, missing=2, first_missing_us=first_us, last_missing_us=last_us
    )


async def test_rows_without_a_time_are_of_no_time(opened: Opener) -> None:
    journal = await opened()
    await journal.stream_log(KEY).append(addition(records(NOON_US, NOON_US + 1, None)))

    (page,) = await journal.pages(KEY, Window(NOON_US, NOON_US + HOUR_US), 0) or []

    assert [0, 1] == [row["n"] for row in page.rows]
