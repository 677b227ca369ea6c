"""What an audit reports of each row: never that it was delivered when it was not."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import Record
from forwarder.core.journal import COUNTS
from forwarder.journal.database import SqliteEngine
from forwarder.journal.ledger import BEFORE_START, DISCARDED, note_passed, passed_by
from forwarder.journal.schema import prepare
from forwarder.journal.sqlite import SqliteJournal
from tests.journal.conftest import HOUR_US, KEY, NOON_US, records

DAY_US = 24 * HOUR_US
_ROWS = records(NOON_US, NOON_US + 1, NOON_US + 2)


async def verdict(
    journal: SqliteJournal, shown: Sequence[Record], sink: str = "siem"
) -> dict[str, int]:
    """Return the counts of a sink that are not 0."""
    found = (await journal.judge(KEY, shown, {}, [sink]))[sink]
    return {name: count for name in COUNTS if (count := getattr(found, name))}


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
