"""One limiter a token: who waits, for how long, in which order, and what a restart remembers."""

import asyncio
import json
import time
from dataclasses import dataclass
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.source_contract import Purpose
from forwarder.core.timing import SystemClock
from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_TOKEN,
    RatePolicy,
    Simulator,
    SimulatorSettings,
)
from forwarder.sources.cloudflare_access import answers
from forwarder.sources.cloudflare_access.account import AccountConfig, RateLimit
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.rate_limit import (
    LONGEST_BLOCK,
    Limit,
    RateLimiter,
    RateLimiters,
    Remaining,
    stated_limits,
    stated_remaining,
)
from forwarder.testing.clock import FakeClock

LIVE, BACKFILL = Purpose.LIVE, Purpose.BACKFILL
TEN_A_MINUTE = RateLimit(requests=10, per=60, share=1.0)


def whole(requests: int, per: float) -> RateLimit:
    return RateLimit(requests=requests, per=per, share=1.0)


async def use(limiter: RateLimiter, times: int, purpose: Purpose = LIVE) -> None:
    for _ in range(times):
        async with limiter.turn(purpose):
            pass


# -- what the headers say -------------------------------------------------------------------------


def test_the_documented_headers_are_read() -> None:
    headers = {"ratelimit": '"default";r=50;t=30', "ratelimit-policy": '"default";q=1200;w=300'}

    assert stated_remaining(headers) == Remaining(50, 30.0)
    assert stated_limits(headers) == (Limit(1200, 300.0),)


def test_of_several_quotas_the_smallest_rest_and_every_limit_count() -> None:
    headers = {
        "ratelimit": '"default";r=50;t=30, "burst";r=3;t=7',
        "ratelimit-policy": 'default; q=1200; w=300, "burst";w=60;q=100',
    }

    assert stated_remaining(headers) == Remaining(3, 7.0)
    assert stated_limits(headers) == (Limit(1200, 300.0), Limit(100, 60.0))


@pytest.mark.parametrize("text", ["", "x", '"d";r=;t=', '"d";r=-1;t=3', '"d";r=5', "r=5;t=x", ";;"])
def test_what_cannot_be_read_says_nothing(text: str) -> None:
    assert stated_remaining({"ratelimit": text}) is None
    assert stated_limits({"ratelimit-policy": text.replace("r", "q").replace("t", "w")}) == ()


@pytest.mark.parametrize("text", ['"d";q=0;w=300', '"d";q=10;w=0', '"d";q=10;w=86400'])
def test_a_limit_that_would_stop_everything_is_not_believed(text: str) -> None:
    assert stated_limits({"ratelimit-policy": text}) == ()


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_header_does_harm(one: str, other: str) -> None:
    headers = {"ratelimit": one, "ratelimit-policy": other}

    stated_limits(headers)
    stated_remaining(headers)


def test_a_header_that_means_nothing_takes_no_time() -> None:
    """Sixteen thousand blanks took minutes, in which nothing else could run."""
    began = time.thread_time()

    assert stated_remaining({"ratelimit": " " * 16_000 + 'x"x'}) is None
    assert stated_remaining({"ratelimit": '"d"' + " " * 16_000 + ";r=1" + " " * 16_000}) is None

    assert time.thread_time() - began < 1.0


def test_a_share_is_cut_to_whole_requests_and_at_least_one() -> None:
    assert Limit(1200, 300).shared(0.8) == Limit(960, 300)
    assert Limit(120, 30).shared(0.8) == Limit(96, 30)
    assert Limit(12, 30).shared(0.8) == Limit(9, 30)
    assert Limit(1, 30).shared(0.1) == Limit(1, 30)
    assert Limit(100, 30).shared(0.29) == Limit(29, 30)


# -- the window -----------------------------------------------------------------------------------


async def test_within_the_limit_nobody_waits() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [TEN_A_MINUTE])

    await use(limiter, 10)

    assert clock.monotonic() == 0
    assert limiter.left == 0


async def test_over_the_limit_one_waits_until_the_first_leaves_the_window() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [TEN_A_MINUTE])
    for _ in range(10):
        await use(limiter, 1)
        await clock.sleep(1)

    async with limiter.turn(LIVE) as waited:
        assert waited == 50
        assert clock.monotonic() == 60
    await use(limiter, 1)
    assert clock.monotonic() == 61


async def test_a_request_counts_from_its_start_until_a_window_after_its_end() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [whole(1, 10)])
    async with limiter.turn(LIVE):
        await clock.sleep(100)
        assert limiter.left == 0

    await use(limiter, 1)

    assert clock.monotonic() == 110


async def test_all_limits_hold_at_once() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [whole(10, 100), whole(2, 10)])

    await use(limiter, 3)

    assert clock.monotonic() == 10


async def test_a_turn_is_over_whatever_became_of_the_request() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [whole(1, 60)])
    with pytest.raises(ZeroDivisionError):
        async with limiter.turn(LIVE):
            1 / 0  # noqa: B018 - fails

    await use(limiter, 1)

    assert clock.monotonic() == 60


# -- what Cloudflare states -----------------------------------------------------------------------


async def test_a_stated_limit_is_obeyed_until_another_is_stated() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [whole(100, 10)])
    limiter.heed({"ratelimit-policy": '"default";q=2;w=10'})
    await use(limiter, 2)
    assert limiter.left == 0

    limiter.heed({})
    assert limiter.left == 0

    limiter.heed({"ratelimit-policy": '"default";q=50;w=10'})
    await use(limiter, 1)
    assert clock.monotonic() == 0


async def test_the_share_of_a_stated_limit_is_obeyed_too() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [RateLimit(requests=1000, per=60, share=0.5)])
    limiter.heed({"ratelimit-policy": '"default";q=10;w=60'})

    await use(limiter, 6)

    assert clock.monotonic() == 60


async def test_no_more_go_before_the_reset_than_remain() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [whole(100, 300)])
    async with limiter.turn(LIVE):
        limiter.heed({"ratelimit": '"default";r=2;t=30'})
    await use(limiter, 2)
    assert clock.monotonic() == 0

    await use(limiter, 1)

    assert clock.monotonic() == 30


async def test_a_rest_of_nothing_for_ever_holds_back_for_ten_minutes_and_is_told() -> None:
    clock, told = FakeClock(), list[float]()
    limiter = RateLimiter(clock, [TEN_A_MINUTE])
    limiter.heed({"ratelimit": '"default";r=0;t=999999999'})
    async with limiter.turn(LIVE, tell=told.append) as waited:
        pass

    assert waited == LONGEST_BLOCK
    assert told == [120.0, 180.0, 240.0, 300.0, 360.0, 420.0, 480.0, 540.0, 600.0]


async def test_a_catch_up_that_waits_for_its_turn_tells_nobody() -> None:
    clock, told = FakeClock(), list[float]()
    limiter = RateLimiter(clock, [whole(1, 600)])
    await use(limiter, 1)
    async with limiter.turn(BACKFILL, tell=told.append) as waited:
        pass

    assert waited >= 600
    assert told == []


async def test_requests_on_their_way_may_not_be_in_what_remains() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [whole(100, 300)])
    async with limiter.turn(LIVE), limiter.turn(LIVE), limiter.turn(LIVE):
        limiter.heed({"ratelimit": '"default";r=2;t=30'})
        await use(limiter, 1)

    assert clock.monotonic() == 30


async def test_an_announcement_of_nothing_for_a_year_is_taken_for_ten_minutes_and_shown() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [TEN_A_MINUTE])
    async with limiter.turn(LIVE):
        limiter.heed({"ratelimit": '"default";r=0;t=999999999'})

    assert limiter.left == 0
    await use(limiter, 1)
    assert clock.monotonic() == LONGEST_BLOCK
    assert limiter.left == 9


async def test_off_waits_for_nothing_but_a_429() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock)
    for _ in range(2000):
        await use(limiter, 1, BACKFILL)
        limiter.heed({"ratelimit": '"default";r=0;t=60', "ratelimit-policy": '"default";q=1;w=60'})
    assert clock.monotonic() == 0
    assert limiter.left is None

    limiter.block(5.0)
    await use(limiter, 1)

    assert clock.monotonic() == 5


# -- 429 ------------------------------------------------------------------------------------------


async def test_a_429_holds_back_everybody_with_the_token() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [TEN_A_MINUTE])

    assert limiter.block(retry_after=240.0) == 240.0
    await asyncio.gather(use(limiter, 1), use(limiter, 1, BACKFILL))

    assert 240 <= clock.monotonic() <= 247
    assert limiter.blocked_for == 0


async def test_a_block_is_never_longer_than_ten_minutes_and_never_shortened() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [TEN_A_MINUTE])
    limiter.block(86_400.0)

    assert limiter.block(1.0) == LONGEST_BLOCK == limiter.blocked_for
    await use(limiter, 1)
    assert clock.monotonic() == LONGEST_BLOCK


async def test_a_429_without_a_time_holds_back_a_minute_and_longer_each_time() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock)
    waits = []
    for _ in range(5):
        waits.append(limiter.block(None))
        assert limiter.block(None) == waits[-1], "answers to requests that were on their way"
        await use(limiter, 1)

    assert waits == [60, 120, 240, 300, 300]

    await clock.sleep(301)
    assert limiter.block(None) == 60


async def test_a_block_that_begins_while_others_wait_is_obeyed_by_them() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [whole(1, 10)])
    await use(limiter, 1)
    waiting = asyncio.create_task(use(limiter, 1))
    await asyncio.sleep(0)

    limiter.block(100.0)
    await waiting

    assert clock.monotonic() == 100


# -- who goes first -------------------------------------------------------------------------------


async def test_live_goes_first_then_the_nearest_to_retention_then_reconcile_then_backfill() -> None:
    limiter = RateLimiter(FakeClock(), [whole(1, 10)])
    served: list[str] = []

    async def ask(name: str, purpose: Purpose, urgency: float = 0.0) -> None:
        async with limiter.turn(purpose, urgency):
            served.append(name)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask("first", Purpose.LIVE))
        tasks.create_task(ask("backfill", Purpose.BACKFILL))
        tasks.create_task(ask("reconcile", Purpose.RECONCILE))
        tasks.create_task(ask("an hour left", Purpose.RESCUE, 3600))
        tasks.create_task(ask("a minute left", Purpose.RESCUE, 60))
        tasks.create_task(ask("live", Purpose.LIVE))
        tasks.create_task(ask("live too", Purpose.LIVE))

    assert served == [
        "first",
        "live",
        "live too",
        "a minute left",
        "an hour left",
        "reconcile",
        "backfill",
    ]


async def test_equals_take_turns() -> None:
    limiter = RateLimiter(FakeClock(), [TEN_A_MINUTE])
    served: list[str] = []

    async def ask(name: str) -> None:
        for _ in range(10):
            async with limiter.turn(Purpose.RECONCILE):
                served.append(name)
                await asyncio.sleep(0)

    await asyncio.gather(ask("a"), ask("b"), ask("c"))

    assert all(set(served[i : i + 3]) == {"a", "b", "c"} for i in range(0, 30, 3))


async def test_who_is_cancelled_while_waiting_makes_room() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [whole(1, 10)])
    await use(limiter, 1)
    first = asyncio.create_task(use(limiter, 1))
    second = asyncio.create_task(use(limiter, 1))
    await asyncio.sleep(0)

    first.cancel()
    await second

    assert clock.monotonic() == 10


async def test_a_live_request_does_not_wait_behind_a_long_backfill() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [whole(100, 100)])
    await use(limiter, 300, BACKFILL)

    for _ in range(2):
        async with limiter.turn(LIVE) as waited:
            assert waited == 0


async def test_a_start_has_no_credit_so_that_restarts_in_a_row_do_not_add_up() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, [whole(100, 100)])

    await use(limiter, 2, BACKFILL)

    assert clock.monotonic() == pytest.approx(1.0)


# -- any clients ----------------------------------------------------------------------------------


@dataclass
class Client:
    """Asks again as soon as it may; ``latency`` and how late in it Cloudflare counts vary."""

    purpose: Purpose
    latencies: list[tuple[float, float]]


clients = st.lists(
    st.builds(
        Client,
        st.sampled_from(Purpose),
        st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1)), min_size=1, max_size=20),
    ),
    min_size=1,
    max_size=6,
)


async def counted(limit: RateLimit, clients: list[Client], seconds: float) -> list[float]:
    """Return when Cloudflare counted each request."""
    clock = FakeClock(patience=10)
    limiter, found = RateLimiter(clock, [limit]), list[float]()

    async def ask(client: Client) -> None:
        for number in count():
            latency, part = client.latencies[number % len(client.latencies)]
            async with limiter.turn(client.purpose):
                await clock.sleep(latency * part)
                found.append(clock.monotonic())
                await clock.sleep(latency * (1 - part))

    tasks = [asyncio.create_task(ask(client)) for client in clients]
    await clock.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return sorted(found)


@given(clients, st.integers(1, 20), st.floats(1, 20))
def test_no_window_of_cloudflares_ever_holds_more_than_the_limit(
    clients: list[Client], requests: int, per: float
) -> None:
    found = asyncio.run(counted(whole(requests, per), clients, 5 * per))

    for first, after in zip(found, found[requests:], strict=False):
        assert after - first >= per - 1e-6


@pytest.mark.parametrize("purpose", Purpose)
async def test_nearly_all_of_the_limit_can_be_used(purpose: Purpose) -> None:
    asking = [Client(purpose, [(0.3, 0.5)]) for _ in range(6)]

    found = await counted(whole(96, 30), asking, 12 * 30)

    assert len(found) >= 0.95 * 96 * 12


async def test_an_even_pace_leaves_no_long_silence() -> None:
    asking = [Client(Purpose.RESCUE, [(0.3, 0.5)]) for _ in range(6)]

    found = await counted(whole(96, 30), asking, 12 * 30)

    assert max(after - before for before, after in pairwise(found)) < 3.0


# -- restarts, and accounts that share a token ----------------------------------------------------


async def test_a_restart_remembers_the_block_and_what_was_used() -> None:
    clock = FakeClock()
    before = RateLimiter(clock, [TEN_A_MINUTE])
    await use(before, 7)
    before.block(30.0)
    snapshot = json.loads(json.dumps(before.snapshot()))
    await clock.sleep(10)

    after = RateLimiter(clock, [TEN_A_MINUTE])
    after.restore(snapshot)

    assert after.left == 3
    assert after.blocked_for == 20
    await clock.sleep(51)
    assert after.left == 10


async def test_a_clock_set_back_makes_neither_a_block_nor_a_used_request_endless() -> None:
    before = RateLimiter(FakeClock(now_us=2_000_000_000_000_000), [TEN_A_MINUTE])
    await use(before, 3)
    before.block(300.0)

    clock = FakeClock(now_us=1_000_000_000_000_000)
    after = RateLimiter(clock, [TEN_A_MINUTE])
    after.restore(before.snapshot())

    assert after.blocked_for == 600
    assert after.left == 7
    await clock.sleep(60)
    assert after.left == 10


def account(number: int, token: str = DEFAULT_TOKEN, **more: object) -> AccountConfig:
    given = {"account_id": f"{number:032x}", "api_token": token, **more}
    return AccountConfig.model_validate(given)


async def test_accounts_with_one_token_share_one_limiter() -> None:
    limiters = RateLimiters(FakeClock())

    assert limiters.of(account(1)) is limiters.of(account(2))
    assert limiters.of(account(3, token="another")) is not limiters.of(account(1))
    assert limiters.of(account(4, api_url="http://127.0.0.1:1")) is not limiters.of(account(1))


async def test_the_tightest_limit_of_all_accounts_with_a_token_holds() -> None:
    limiters = RateLimiters(FakeClock())
    ten = {"requests": 10, "per": "1m", "share": 1}

    assert limiters.of(account(1, rate_limit="off")).left is None
    assert limiters.of(account(2, rate_limit=ten)).left == 10
    assert limiters.of(account(3)).left == 10
    assert limiters.of(account(2, rate_limit={**ten, "requests": 20})).left == 20


async def test_limiters_are_remembered_by_a_hash_of_their_token() -> None:
    clock = FakeClock()
    limiters = RateLimiters(clock)
    limiters.of(account(1)).block(100.0)
    snapshot = json.dumps(limiters.snapshot())

    assert DEFAULT_TOKEN not in snapshot
    assert RateLimiters(clock, json.loads(snapshot)).of(account(1)).blocked_for == 100
    assert RateLimiters(clock, json.loads(snapshot)).of(account(1, token="x")).blocked_for == 0


async def test_three_accounts_in_catch_up_use_their_share_and_never_more() -> None:
    """The policy is 120 requests in any 5 s; 80 % of it, 96, is ours."""
    window, share, accounts = 5.0, 96, [f"{number:032x}" for number in (1, 2, 3)]
    settings = SimulatorSettings(
        accounts=tuple(accounts), rate=0, scim_rate=0, policy=RatePolicy(120, window)
    )
    async with Simulator(settings) as simulator:
        clock = SystemClock()
        limiters = RateLimiters(clock)
        configs = [
            account(
                number,
                api_url=simulator.url,
                rate_limit={"requests": 120, "per": window, "share": 0.8},
            )
            for number in (1, 2, 3)
        ]
        apis = [Api(config, limiters.of(config), clock) for config in configs]

        async def catch_up(api: Api) -> None:
            for page in count(1):
                await api.get(
                    answers.ACCESS_REQUESTS, [("page", str(page))], purpose=Purpose.RESCUE
                )

        tasks = [asyncio.create_task(catch_up(api)) for api in apis]
        await asyncio.sleep(1.3 * window)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(api.aclose() for api in apis))

        busiest = simulator.requests.busiest(window, ACCESS_REQUESTS)
        in_all = simulator.requests.counts[ACCESS_REQUESTS]
        assert 0.95 * share <= busiest <= share
        assert in_all >= 0.95 * share * 1.3
        assert simulator.times_throttled == 0
