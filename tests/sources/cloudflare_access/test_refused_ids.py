"""A refused provider is neither forgotten nor asked for at every poll."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.sources.cloudflare_access.scim.providers import RefusedIds

NOW = 1_790_000_000_000_000
SECOND = 1_000_000
REFRESH = 300.0
IDS = [f"idp-{number}" for number in range(45)]

names = st.lists(st.sampled_from(IDS), unique=True)
events = st.lists(st.tuples(st.booleans(), names, st.integers(0, 400)))


def after(history: list[tuple[bool, list[str], int]]) -> tuple[RefusedIds, int]:
    refusals, now_us = RefusedIds(), NOW
    for refused, ids, seconds in history:
        now_us += seconds * SECOND
        refusals = refusals.refused(ids, now_us) if refused else refusals.accepted(ids)
    return refusals, now_us


@given(events, names)
def test_every_id_is_asked_for_or_passed_over_but_never_both(
    history: list[tuple[bool, list[str], int]], ids: list[str]
) -> None:
    refusals, now_us = after(history)

    chunks, passed_over = refusals.plan(ids, now_us, REFRESH)

    assert sorted([*(id_ for chunk in chunks for id_ in chunk), *passed_over]) == sorted(ids)
    assert all(chunks)


@given(events, names)
def test_whoever_was_not_refused_is_never_passed_over(
    history: list[tuple[bool, list[str], int]], ids: list[str]
) -> None:
    refusals, now_us = after([*history, (False, ids, 0)])

    assert refusals.plan(ids, now_us, REFRESH)[1] == []


@given(events, names, st.sampled_from([-1, 300, 10_000]))
def test_everybody_is_asked_for_again_later_or_when_the_clock_was_set_back(
    history: list[tuple[bool, list[str], int]], ids: list[str], seconds: int
) -> None:
    refusals, now_us = after([*history, (True, ids, 0)])

    assert refusals.plan(ids, now_us + seconds * SECOND, REFRESH)[1] == []


@given(events, names)
def test_what_is_kept_comes_back(
    history: list[tuple[bool, list[str], int]], ids: list[str]
) -> None:
    refusals, now_us = after(history)
    restarted = RefusedIds.from_json(refusals.to_json())

    assert restarted.plan(ids, now_us, REFRESH) == refusals.plan(ids, now_us, REFRESH)


def test_an_id_is_believed_to_be_refused_after_the_second_time() -> None:
    once = RefusedIds().refused(["b"], NOW)
    twice = once.refused(["b"], NOW)

    assert once.plan(["a", "b", "c"], NOW, REFRESH) == ((("a", "c"), ("b",)), [])
    assert twice.plan(["a", "b", "c"], NOW, REFRESH) == ((("a", "c"),), ["b"])


def test_those_that_are_gone_are_forgotten() -> None:
    assert list(RefusedIds().refused(["a", "b"], NOW).among(["b", "c"]).of) == ["b"]


@pytest.mark.parametrize("kept", [None, [], "x", {"a": 1}, {"a": ["x", 1]}, {"a": [1]}])
def test_what_cannot_be_read_is_no_refusal(kept: Any) -> None:
    assert RefusedIds.from_json(kept) == RefusedIds()
