"""Waiting grows, has an end, is spread out, and heeds what was asked for."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.timing import Backoff

randoms = st.integers(0, 2**32).map(Random)


@given(st.integers(1, 10_000), randoms)
def test_no_wait_is_longer_than_the_bound(attempt: int, rng: Random) -> None:
    assert 0 <= Backoff().delay(attempt, rng) <= min(30.0, 2.0 ** (min(attempt, 10) - 1))


@given(st.integers(1, 10_000), randoms)
def test_a_slow_fault_waits_at_least_half_its_bound(attempt: int, rng: Random) -> None:
    assert 7.5 <= Backoff().delay(attempt, rng, slow=True) <= 60.0


@given(st.integers(1, 100), st.floats(0, 1000), randoms)
def test_never_sooner_than_asked_for(attempt: int, asked: float, rng: Random) -> None:
    wait = Backoff().delay(attempt, rng, retry_after=asked)

    assert asked <= wait <= asked + 1.0
