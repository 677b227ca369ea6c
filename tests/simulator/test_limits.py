"""The quota: a sliding window, and a block for whoever exceeds it."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from forwarder.simulator import RatePolicy
from forwarder.simulator.access import RateLimiter

GAPS = st.lists(st.floats(0, 12, allow_nan=False), max_size=60)


@given(GAPS, st.integers(1, 5), st.floats(1, 20))
def test_no_window_ever_holds_more_admitted_requests_than_the_quota(
    gaps: list[float], quota: int, window: float
) -> None:
    limiter, now, admitted = RateLimiter(RatePolicy(quota, window, block=0.5)), 0.0, list[float]()
    for gap in gaps:
        now += gap
        verdict = limiter.charge("client", now)
        assert verdict is not None
        if verdict.allowed:
            admitted.append(now)
            recent = [at for at in admitted if now - window < at]
            assert verdict.remaining == quota - len(recent)

    busiest = [sum(end - window < at <= end for at in admitted) for end in admitted]
    assert all(held <= quota for held in busiest)


def test_one_request_too_many_blocks_everything_for_the_block_time() -> None:
    policy = RatePolicy(requests=2, window=30, block=300)
    limiter = RateLimiter(policy)

    verdicts = [limiter.charge("a", at) for at in (0.0, 1.0, 2.0, 40.0, 301.9, 302.0)]

    allowed = [verdict.allowed for verdict in verdicts if verdict]
    assert allowed == [True, True, False, False, False, True]
    assert limiter.exceeded == 1
    assert limiter.headers(verdicts[3]) == {
        "Ratelimit": '"default";r=0;t=262',
        "Ratelimit-Policy": '"default";q=2;w=30',
        "Retry-After": "262",
    }


def test_clients_have_a_quota_each() -> None:
    limiter = RateLimiter(RatePolicy(requests=1, window=30))
    limiter.charge("a", 0.0)
    limiter.charge("a", 1.0)

    other = limiter.charge("b", 1.0)

    assert other is not None
    assert other.allowed
    assert limiter.blocked(2.0) == 1


def test_without_a_policy_nothing_is_limited_or_told() -> None:
    limiter = RateLimiter(None)

    verdict = limiter.charge("a", 0.0)

    assert verdict is None
    assert limiter.headers(verdict) == {}
