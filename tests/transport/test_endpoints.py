"""Several addresses: the preferred one that works, or all in turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.timing import SystemClock
from forwarder.transport.http_destination import REST, Endpoints, choose

A, B, C = "http://a", "http://b", "http://c"


class Hand(SystemClock):
    """A clock whose hand the test moves."""

    seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


@given(st.lists(st.floats(0, 200), min_size=1, max_size=6), st.floats(0, 200), st.integers(0, 5))
def test_an_address_that_works_is_chosen_before_one_that_rests(
    rests_until: list[float], now: float, start: int
) -> None:
    chosen = choose(rests_until, now, start % len(rests_until))

    awake = [index for index, until in enumerate(rests_until) if until <= now]
    if awake:
        assert chosen in awake
    else:
        assert rests_until[chosen] == min(rests_until)


def test_failover_prefers_the_first_address_and_returns_to_it() -> None:
    clock = Hand()
    endpoints = Endpoints([A, B, C], clock)

    assert endpoints.next() == A
    endpoints.failed(A)
    assert [endpoints.next(), endpoints.next()] == [B, B]
    endpoints.failed(B)
    assert endpoints.next() == C
    clock.seconds += REST + 1
    assert endpoints.next() == A


def test_an_answer_ends_the_rest() -> None:
    endpoints = Endpoints([A, B], Hand())
    endpoints.failed(A)
    endpoints.answered(A)

    assert endpoints.next() == A


def test_round_robin_uses_all_that_work_in_turn() -> None:
    endpoints = Endpoints([A, B, C], Hand(), spread=True)
    endpoints.failed(B)

    assert [endpoints.next() for _ in range(4)] == [A, C, A, C]


async def test_a_probe_is_content_with_one_address_that_works() -> None:
    endpoints = Endpoints([A, B], Hand())

    async def check(url: str) -> None:
        if url == A:
            raise TransientError("away")

    await endpoints.probe(check)

    assert endpoints.next() == B


async def test_a_probe_of_addresses_that_all_fail_tells_the_first_fault() -> None:
    async def check(url: str) -> None:
        raise NeedsOperatorError("token") if url == A else TransientError("away")

    with pytest.raises(NeedsOperatorError):
        await Endpoints([A, B], Hand()).probe(check)
