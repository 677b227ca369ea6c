"""A row that came to have more keys is known by what it was before."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import Page
from forwarder.core.log import KeySet
from forwarder.ingest.rounds import aliases, unknown_keys
from forwarder.sources.cloudflare_access.answers import Answer
from forwarder.sources.cloudflare_access.logs import PageMaker

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


def test_key_sets_are_unknown_until_they_are_remembered() -> None:
    both = page([{"created_at": TIME, "app": 1}, {"created_at": TIME, "app": 1, "risk": 0}])

    assert unknown_keys(both, []) == [OLD, NEW]
    assert unknown_keys(both, known(OLD)) == [NEW]
    assert unknown_keys(both, known(NEW, OLD)) == []
