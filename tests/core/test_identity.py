"""A row is the same row whatever the order of its keys, and two twins are two."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.identity import Identifier, canonical

values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5)
rows = st.dictionaries(st.text(max_size=4), values, max_size=5)
IDENTIFY = Identifier("a" * 32, "access_requests")


@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(row: dict[str, object], random: Random) -> None:
    items = list(row.items())
    random.shuffle(items)

    assert canonical(row) == canonical(dict(items))


@given(st.lists(rows, max_size=6))
def test_identities_differ_as_often_as_rows_were_given(given_rows: list[dict[str, object]]) -> None:
    identities = IDENTIFY.identities([canonical(row) for row in given_rows])

    assert len(given_rows) == len(set(identities))
    assert all(16 == len(identity) for identity in identities)


@given(rows)
def test_a_twin_is_the_second_copy(row: dict[str, object]) -> None:
    text = canonical(row)

    assert [IDENTIFY.identity(text, 0), IDENTIFY.identity(text, 1)] == IDENTIFY.identities(
        [text, text]
    )


def test_stream_and_account_are_part_of_it() -> None:
    makers = [Identifier(a, s) for a in ("a" * 32, "b" * 32) for s in ("x", "y")]

    assert 4 == len({maker.identity(b"{}") for maker in makers})


def test_an_identity_never_changes_between_releases() -> None:
    """It is what destinations deduplicate by: a change delivers everything once more."""
    row = {"created_at": "2026-01-01T00:00:00Z", "ray_id": "1"}

    assert "cd953ecf05e37f3adc23f425125f27c2" == IDENTIFY.identity(canonical(row)).hex()
