"""How many dead letters a sink keeps, and which of them leave."""

from collections.abc import Sequence

from forwarder.core.contracts import LIVE
from forwarder.core.journal import GapOpened, Keeping
from forwarder.core.log import EXPECTED_REFUSAL, DeadLetter, Progress
from forwarder.core.telemetry import TelemetryEvent
from forwarder.journal.dead_letters import make_room, room
from forwarder.journal.sqlite import SqliteJournal
from tests.journal.conftest import HOUR_US, KEY, NOON_US, Opener, addition, beside, records

EXPECTED = EXPECTED_REFUSAL + "too old"


async def _journal_with(opened: Opener, letters: Sequence[DeadLetter]) -> SqliteJournal:
    journal = await opened()
    queue = await journal.sink_queue("siem")
    rows = records(*(NOON_US + n for n in range(10)))
    await journal.stream_log(KEY).append(addition(rows))
    await queue.acknowledge(LIVE, Progress(11), letters)
    return journal


async def _letters(journal: SqliteJournal) -> list[int]:
    return [letter.offset for letter in await journal.letters()]


async def _make_room(journal: SqliteJournal, events: int) -> GapOpened | None:
    return beside(journal, lambda c: make_room(c, 1, NOON_US, Keeping(2**30, HOUR_US, events)))


async def test_expected_refusals_take_no_room_from_the_others(opened: Opener) -> None:
    letters = [DeadLetter(1, EXPECTED), DeadLetter(2, "bad"), DeadLetter(3, EXPECTED)]
    journal = await _journal_with(opened, letters)

    left, _ = beside(journal, lambda c: room(c, 1, Keeping(2**30, HOUR_US, 3)))

    assert left == 2


async def test_where_there_is_no_room_the_oldest_expected_ones_leave(opened: Opener) -> None:
    letters = [DeadLetter(1, "bad"), *(DeadLetter(n, EXPECTED) for n in (2, 3, 4))]
    journal = await _journal_with(opened, letters)

    gap = await _make_room(journal, 2)

    assert await _letters(journal) == [1, 4]
    assert gap is not None
    assert (gap.scope, gap.reason, gap.rows) == ("sink:siem", "expected_refusals", 2)
    passed = [one for one in await journal.passed_over("siem") if one.reason != "refused"]
    assert [(2, 4, "expected_refusals")] == [(one.start, one.end, one.reason) for one in passed]


async def test_others_never_leave_by_themselves(opened: Opener) -> None:
    journal = await _journal_with(opened, [DeadLetter(n, "bad") for n in (1, 2, 3)])

    assert await _make_room(journal, 1) is None
    assert await _letters(journal) == [1, 2, 3]


async def test_what_leaves_later_widens_the_gap_until_an_operator_makes_room(
    opened: Opener,
) -> None:
    letters = [DeadLetter(1, "bad"), *(DeadLetter(n, EXPECTED) for n in (2, 3, 4, 5))]
    journal = await _journal_with(opened, letters)

    first = await _make_room(journal, 4)
    second = await _make_room(journal, 3)
    await journal.drop_letters("siem", [1])
    third = await _make_room(journal, 1)

    gaps = [gap for gap in await journal.gaps() if gap.reason == "expected_refusals"]
    assert [first is None, second is None, third is None] == [False, True, False]
    assert [(2, False), (1, True)] == [(gap.rows, gap.closed_us is None) for gap in gaps]
    assert await _letters(journal) == [5]


async def test_an_acknowledgement_makes_room_in_its_own_transaction(
    opened: Opener, events: list[TelemetryEvent]
) -> None:
    journal = await _journal_with(opened, [])
    queue = await journal.sink_queue("siem")
    rows = records(*(NOON_US + n for n in range(11_000)), first=100)
    for start in range(0, len(rows), 1000):
        await journal.stream_log(KEY).append(addition(rows[start : start + 1000]))
    await queue.acknowledge(
        LIVE, Progress(11_011), [DeadLetter(n, EXPECTED) for n in range(11, 11_011)]
    )

    assert len(await _letters(journal)) == 10_000
    opened_gaps = [one for one in events if isinstance(one, GapOpened)]
    assert [("expected_refusals", 1000)] == [(one.reason, one.rows) for one in opened_gaps]
