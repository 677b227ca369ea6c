"""A row is the same row whatever the order of its keys, and two twins are two."""

from collections.abc import Mapping
from hashlib import blake2b
from random import Random
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from forwarder.core.identity import Identifier

plain = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5)
nested = st.dictionaries(st.text(max_size=2), plain, max_size=3)
values = plain | nested | st.lists(nested, max_size=2)
rows = st.dictionaries(st.sampled_from("abcde") | st.text(max_size=4), values, max_size=5)
IDENTIFY = Identifier("a" * 32, "access_requests")


def text(row: Mapping[str, Any]) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)


def shuffled(value: Any, random: Random) -> Any:
    if isinstance(value, list):
        return [shuffled(item, random) for item in value]
    if not isinstance(value, dict):
        return value
    items = [(key, shuffled(item, random)) for key, item in value.items()]
    random.shuffle(items)
    return dict(items)


@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(row: dict[str, Any], random: Random) -> None:
    assert IDENTIFY.identity(row) == IDENTIFY.identity(shuffled(row, random))


@given(st.lists(rows, max_size=6))
def test_identities_differ_as_often_as_rows_were_given(given_rows: list[dict[str, Any]]) -> None:
    identities = IDENTIFY.identities(given_rows)

    assert len(given_rows) == len(set(identities))
    assert all(16 == len(identity) for identity in identities)


@given(st.lists(rows | st.just({"a": 1, "b": 2}), max_size=6))
def test_a_row_is_the_same_among_others_and_alone(given_rows: list[dict[str, Any]]) -> None:
    identified, before = IDENTIFY.identified(given_rows), list[bytes]()
    for row, identity in zip(given_rows, identified.identities, strict=True):
        assert IDENTIFY.identity(row, before.count(text(row))) == identity
        before.append(text(row))

    assert [frozenset(row) for row in given_rows] == identified.keys
    assert [len(orjson.dumps(row)) for row in given_rows] == identified.lengths


@given(rows, rows)
@example({"a": 1}, {"b": 1})
def test_rows_that_differ_in_a_key_or_a_value_are_two(
    row: dict[str, Any], other: dict[str, Any]
) -> None:
    same = IDENTIFY.identity(row) == IDENTIFY.identity(other)

    assert same is (text(row) == text(other))


@given(rows)
def test_a_twin_is_the_second_copy(row: dict[str, Any]) -> None:
    assert [IDENTIFY.identity(row, 0), IDENTIFY.identity(row, 1)] == IDENTIFY.identities([row, row])


def test_stream_and_account_are_part_of_it() -> None:
    makers = [Identifier(a, s) for a in ("a" * 32, "b" * 32) for s in ("x", "y")]

    assert 4 == len({maker.identity({}) for maker in makers})


def test_more_shapes_than_are_remembered_change_no_identity() -> None:
    identify, many = Identifier("a" * 32, "s"), [{f"key {n}": n} for n in range(1000)]

    assert [identify.identity(row) for row in many] == identify.identities(many)


def test_an_identity_never_changes_between_releases() -> None:
    """It is what destinations deduplicate by: a change delivers everything once more."""
    row = {"ray_id": "1", "created_at": "2026-01-01T00:00:00Z"}
    shared = b'1\naccess_requests\n%b\n["created_at","ray_id"]' % (b"a" * 32)
    begun = blake2b(person=blake2b(shared, digest_size=16).digest(), digest_size=16)
    begun.update(b'["2026-01-01T00:00:00Z","1"]')

    assert "73c287bc1ab3579a8ac4eedb3b5e384f" == IDENTIFY.identity(row).hex() == begun.hexdigest()
