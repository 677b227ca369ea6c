"""When a request may go: never more in any window than allowed, and live ones first."""

from dataclasses import dataclass
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.sources.cloudflare_access.rate_limit import (
    LONGEST_BLOCK,
    Ledger,
    Limit,
    Priority,
    Standing,
)

LIVE, BACKFILL = Priority.LIVE, Priority.BACKFILL


def make(ledger: Ledger, now: float, priority: Priority = LIVE) -> None:
    """Make one request that takes no time."""
    assert ledger.delay(priority, now) == 0
    ledger.begin(priority, now)
    ledger.end(now)


def test_a_window_takes_what_the_limit_says_and_then_waits_for_the_first_to_leave() -> None:
    ledger = Ledger(0.0, [Limit(3, 10.0)])
    for now in (1.0, 2.0, 3.0):
        make(ledger, now)

    assert ledger.left(3.0) == 0
    assert ledger.delay(LIVE, 4.0) == 7.0
    assert ledger.delay(LIVE, 11.0) == 0
    assert ledger.left(11.0) == 1


def test_a_request_counts_from_its_start_until_a_window_after_its_end() -> None:
    ledger = Ledger(0.0, [Limit(1, 10.0)])
    ledger.begin(LIVE, 0.0)

    assert ledger.delay(LIVE, 100.0) == inf

    ledger.end(100.0)
    assert ledger.delay(LIVE, 100.0) == 10.0


def test_all_limits_hold_at_once() -> None:
    ledger = Ledger(0.0, [Limit(10, 100.0), Limit(2, 10.0)])
    make(ledger, 0.0)
    make(ledger, 0.0)

    assert ledger.delay(LIVE, 1.0) == 9.0


def test_without_limits_only_a_block_makes_wait() -> None:
    ledger = Ledger(0.0)
    ledger.learn((Limit(1, 60.0),))
    ledger.stand(Standing(0, 60.0), 0.0)
    for _ in range(100):
        make(ledger, 0.0, BACKFILL)

    ledger.block(5.0, 0.0)

    assert ledger.left(0.0) is None
    assert ledger.delay(LIVE, 1.0) == 4.0


def test_what_cloudflare_states_is_obeyed_until_it_states_something_else() -> None:
    ledger = Ledger(0.0, [Limit(100, 10.0)])
    ledger.learn((Limit(2, 10.0),))
    make(ledger, 0.0)
    make(ledger, 0.0)
    assert ledger.delay(LIVE, 1.0) == 9.0

    ledger.learn(())
    assert ledger.delay(LIVE, 1.0) == 9.0

    ledger.learn((Limit(50, 10.0),))
    assert ledger.delay(LIVE, 1.0) == 0


def test_no_more_go_before_the_reset_than_are_left() -> None:
    ledger = Ledger(0.0, [Limit(100, 300.0)])
    ledger.begin(LIVE, 0.0)
    ledger.stand(Standing(remaining=2, reset=30.0), 0.0)
    ledger.end(0.0)
    make(ledger, 1.0)
    make(ledger, 1.0)

    assert ledger.delay(LIVE, 1.0) == 29.0
    assert ledger.delay(LIVE, 30.0) == 0


def test_those_on_their_way_may_not_be_in_what_is_left() -> None:
    ledger = Ledger(0.0, [Limit(100, 300.0)])
    for _ in range(3):
        ledger.begin(LIVE, 0.0)

    ledger.stand(Standing(remaining=2, reset=30.0), 0.0)

    assert ledger.delay(LIVE, 0.0) == 30.0


def test_a_block_is_never_longer_than_ten_minutes_and_never_shortened() -> None:
    ledger = Ledger(0.0, [Limit(10, 10.0)])
    ledger.block(86_400.0, 0.0)
    ledger.block(1.0, 0.0)

    assert ledger.blocked_for(0.0) == LONGEST_BLOCK == ledger.delay(LIVE, 0.0)
    assert ledger.delay(LIVE, LONGEST_BLOCK) == 0


def test_a_start_has_no_credit_so_that_restarts_in_a_row_do_not_add_up() -> None:
    ledger = Ledger(50.0, [Limit(100, 100.0)])
    make(ledger, 50.0, BACKFILL)

    assert ledger.delay(BACKFILL, 50.0) == pytest.approx(1.0)


def test_a_live_request_does_not_wait_behind_a_long_backfill() -> None:
    ledger = Ledger(0.0, [Limit(100, 100.0)])
    now = 0.0
    for _ in range(300):
        now += ledger.delay(BACKFILL, now)
        make(ledger, now, BACKFILL)

    make(ledger, now, LIVE)
    make(ledger, now, LIVE)


def test_earlier_requests_can_be_recalled_even_from_a_clock_that_was_ahead() -> None:
    ledger = Ledger(100.0, [Limit(3, 10.0)])
    ledger.recall([200.0, 95.0, 50.0], 100.0)

    assert ledger.left(100.0) == 1
    assert ledger.delay(LIVE, 100.0) == 0
    assert ledger.left(110.0) == 3


@dataclass
class Client:
    """Asks again as soon as it may; ``latency`` and how late in it Cloudflare counts vary."""

    priority: Priority
    latencies: list[tuple[float, float]]


clients = st.lists(
    st.builds(
        Client,
        st.sampled_from(Priority),
        st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1)), min_size=1, max_size=20),
    ),
    min_size=1,
    max_size=6,
)


def run(ledger: Ledger, clients: list[Client], seconds: float) -> list[float]:
    """Return when Cloudflare counted each request."""
    now, counted = 0.0, []
    ends: list[tuple[float, int]] = []
    waiting = dict(enumerate(clients))
    made = [0] * len(clients)
    while now < seconds:
        for number in sorted(waiting, key=lambda n: clients[n].priority):
            client = clients[number]
            if ledger.delay(client.priority, now) > 0:
                continue
            latency, part = client.latencies[made[number] % len(client.latencies)]
            made[number] += 1
            ledger.begin(client.priority, now)
            counted.append(now + latency * part)
            ends.append((now + latency, number))
            del waiting[number]
        moments = [end for end, _ in ends]
        moments += [now + ledger.delay(clients[n].priority, now) for n in waiting]
        now = max(now, min(moments)) + 1e-9
        for end, number in [one for one in ends if one[0] <= now]:
            ledger.end(end if end > now - 1e-6 else now)
            ends.remove((end, number))
            waiting[number] = clients[number]
    return sorted(counted)


@given(clients, st.integers(1, 20), st.floats(1, 20))
def test_no_window_of_cloudflares_ever_holds_more_than_the_limit(
    clients: list[Client], requests: int, per: float
) -> None:
    counted = run(Ledger(0.0, [Limit(requests, per)]), clients, 5 * per)

    for first, after in zip(counted, counted[requests:], strict=False):
        assert after - first >= per - 1e-6


@pytest.mark.parametrize("priority", Priority)
def test_nearly_all_of_the_limit_can_be_used(priority: Priority) -> None:
    limit = Limit(96, 30.0)
    asking = [Client(priority, [(0.3, 0.5)]) for _ in range(6)]

    counted = run(Ledger(0.0, [limit]), asking, 12 * limit.per)

    assert len(counted) >= 0.95 * limit.requests * 12


def test_an_even_pace_leaves_no_long_silence() -> None:
    limit = Limit(96, 30.0)
    asking = [Client(Priority.RETENTION, [(0.3, 0.5)]) for _ in range(6)]

    counted = run(Ledger(0.0, [limit]), asking, 12 * limit.per)

    assert max(after - before for before, after in pairwise(counted)) < 3.0
