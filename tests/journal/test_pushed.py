"""What may come again because its answer was lost is stored once; twins are stored each time."""

from __future__ import annotations

from dataclasses import replace

from forwarder.journal.storage import Session
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


def names(session: Session) -> int:
    (count,) = session.execute("SELECT count(*) FROM memory WHERE key LIKE 'once:%'").fetchone()
    return int(count)


async def test_a_name_is_stored_once_also_after_a_restart(opened: Opener) -> None:
    pushed = replace(addition(records(NOON_US, NOON_US + 1)), once="digest")
    journal = await opened()
    first = await journal.stream_log(KEY).append(pushed)
    await journal.aclose()
    journal = await opened()
    again = await journal.stream_log(KEY).append(replace(pushed, records=records(NOON_US + 9)))
    other = await journal.stream_log(KEY).append(replace(pushed, once="other", twins=(0, 1)))

    assert (2, False) == (len(first.new), first.repeated)
    assert (0, True) == (len(again.new), again.repeated)
    assert (2, False) == (len(other.new), other.repeated)


async def test_names_are_known_for_a_day_and_then_forgotten(opened: Opener) -> None:
    log = (await opened()).stream_log(KEY)
    pushed = replace(addition(records(NOON_US)), once="digest", twins=(0,))
    await log.append(pushed)
    within = await log.append(replace(pushed, seen_us=NOON_US + 25 * HOUR_US))
    beyond = await log.append(replace(pushed, seen_us=NOON_US + 27 * HOUR_US))

    assert [True, False] == [within.repeated, beyond.repeated]


async def test_forgotten_names_leave_the_file(opened: Opener, clock: SetClock) -> None:
    journal = await opened()
    for hour in range(40):
        at_us = clock.now_us() + hour * HOUR_US
        pushed = addition(records(NOON_US, first=hour))
        await journal.stream_log(KEY).append(replace(pushed, once=f"d{hour}", seen_us=at_us))

    assert beside(journal, names) == 26


async def test_a_failed_addition_leaves_its_name_free(opened: Opener) -> None:
    journal = await opened()
    pushed = replace(addition(records(NOON_US)), once="digest")
    failed = None
    try:
        await journal.stream_log(KEY).append(replace(pushed, lane="backfill:none"))
    except Exception as error:  # noqa: BLE001 - whatever it is, nothing was stored
        failed = error
    stored = await journal.stream_log(KEY).append(pushed)

    assert failed is not None
    assert ([0], False) == (list(stored.new), stored.repeated)


async def test_only_twins_are_stored_although_they_were_seen(opened: Opener) -> None:
    log = (await opened()).stream_log(KEY)
    rows = records(NOON_US, NOON_US + 1, NOON_US + HOUR_US, None)
    await log.append(addition(rows))
    appended = await log.append(replace(addition(rows), twins=frozenset({1, 3})))

    assert [1, 3] == list(appended.new)
