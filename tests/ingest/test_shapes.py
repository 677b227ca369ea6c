"""A row that came to have more keys is known by what it was before."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import Page, StreamKey
from forwarder.core.log import MOST_KEY_SETS, Addition, KeySet, ReaderState
from forwarder.ingest.rounds import KeySets, aliases
from forwarder.sources.cloudflare_access.answers import Answer
from forwarder.sources.cloudflare_access.logs import PageMaker
from tests.ingest.inline_log import InlineJournal
from tests.ingest.virtual_time import VirtualClock

KEY = StreamKey("a" * 32, "access_requests")
MAKER = PageMaker("a" * 32, "access_requests", "created_at")
TIME = "2026-09-21T14:00:00Z"
TIME_US = 1_789_999_200_000_000
OLD, NEW = frozenset({"created_at", "app"}), frozenset({"created_at", "app", "risk"})

rows_before = st.lists(
    st.fixed_dictionaries({"created_at": st.just(TIME), "app": st.integers(0, 3)}), max_size=8
)
risks = st.lists(st.integers(0, 1), min_size=8, max_size=8)


def page(rows: Sequence[dict[str, Any]]) -> Page:
    return MAKER.page(Answer(list(rows), None, None), MAKER.records(rows), None)


def known(*key_sets: frozenset[str], horizon_us: int = 2**62) -> list[KeySet]:
    return [KeySet(keys, horizon_us, 10 * offset) for offset, keys in enumerate(key_sets)]


@given(rows_before, risks)
def test_rows_with_a_new_key_have_the_identities_they_were_stored_under(
    rows: list[dict[str, Any]], values: list[int]
) -> None:
    """Twins that the new key tells apart are two rows still."""
    before = page(rows)
    after = page([row | {"risk": risk} for row, risk in zip(rows, values, strict=False)])

    found = aliases(after, known(OLD))

    assert [found[index] for index in range(len(rows))] == [[r.identity] for r in before.records]


@given(rows_before, risks)
def test_rows_that_lost_a_key_are_not_looked_up(
    rows: list[dict[str, Any]], values: list[int]
) -> None:
    after = [row | {"risk": risk} for row, risk in zip(rows, values, strict=False)]

    assert aliases(page(rows), known(OLD, NEW)) == {}
    assert aliases(page(after), known(frozenset({"created_at", "zone"}))) == {}


def test_a_row_newer_than_its_key_set_was_never_stored_without_it() -> None:
    rows: list[dict[str, Any]]
    rows = [{"created_at": TIME, "app": 1, "risk": 0}, {"created_at": None, "app": 1, "risk": 0}]

    assert list(aliases(page(rows), known(OLD, NEW, horizon_us=TIME_US - 1))) == [1]
    assert list(aliases(page(rows), known(OLD, NEW, horizon_us=TIME_US))) == [0, 1]


def test_only_key_sets_that_came_earlier_are_looked_up() -> None:
    assert aliases(page([{"created_at": TIME, "app": 1, "risk": 0}]), known(NEW, OLD)) == {}


def test_every_earlier_key_set_is_looked_up() -> None:
    (found,) = aliases(
        page([{"created_at": TIME, "app": 1, "zone": 2, "risk": 0}]), known(OLD, OLD | {"zone"})
    ).values()

    wanted = [{"created_at": TIME, "app": 1}, {"created_at": TIME, "app": 1, "zone": 2}]
    assert found == [page([row]).records[0].identity for row in wanted]


def remembering(*key_sets: frozenset[str]) -> KeySets:
    found = KeySets()
    found.learn(known(*key_sets))
    return found


def test_key_sets_are_unknown_until_they_are_remembered() -> None:
    both = page([{"created_at": TIME, "app": 1}, {"created_at": TIME, "app": 1, "risk": 0}])

    assert remembering().changes(both, forget=True) == ([OLD, NEW], [])
    assert remembering(OLD).changes(both, forget=True) == ([NEW], [])
    assert remembering(NEW, OLD).changes(both, forget=True) == ([], [])


def with_key(number: int, count: int = 1) -> list[dict[str, Any]]:
    return [{"created_at": TIME, "app": app, f"key-{number}": 0} for app in range(count)]


def test_the_least_recently_met_key_sets_go() -> None:
    sets = [frozenset({"created_at", "app", f"key-{number}"}) for number in range(MOST_KEY_SETS)]
    remembered = remembering(*sets)
    remembered.changes(page([row for number in range(10) for row in with_key(number)]), forget=True)

    new, old = remembered.changes(page(with_key(1000) + with_key(1001)), forget=True)

    assert len(new) == len(old) == 2
    assert not set(old) & set(sets[:10])


def test_rows_with_a_key_set_of_their_own_come_last() -> None:
    many = [row for number in range(MOST_KEY_SETS) for row in with_key(number)]

    new, _ = remembering().changes(page([*many, *with_key(1000, count=2)]), forget=True)

    assert len(new) == MOST_KEY_SETS
    assert new[0] == {"created_at", "app", "key-1000"}


def test_a_backfill_forgets_nothing() -> None:
    sets = [frozenset({"created_at", "app", f"key-{number}"}) for number in range(MOST_KEY_SETS)]

    assert remembering(*sets).changes(page(with_key(1000)), forget=False) == ([], [])


async def test_thousands_of_key_sets_are_not_remembered_and_hold_nobody_up(tmp_path: Path) -> None:
    """Rows with a key name of their own; each took longer than the one before."""
    clock = VirtualClock(TIME_US)
    journal, sets = InlineJournal(tmp_path, KEY, clock), KeySets()
    began = time.thread_time()
    try:
        for number in range(5):
            rows = [row for own in range(1000) for row in with_key(1000 * number + own)]
            found = page(rows)
            new, old = sets.changes(found, forget=True)
            appended = await journal.log.append(
                Addition(
                    "live",
                    ReaderState(TIME_US),
                    TIME_US,
                    found.records,
                    aliases(found, sets.known),
                    sets.known,
                    new,
                    old,
                )
            )
            sets.learn(appended.key_sets)
            assert len(appended.new) == 1000
            assert len(appended.key_sets) <= MOST_KEY_SETS
        assert len((await journal.log.load()).key_sets) <= MOST_KEY_SETS
    finally:
        journal.close()
    assert time.thread_time() - began < 5.0
