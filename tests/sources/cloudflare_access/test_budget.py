"""One budget a token: who waits, for how long, in which order, and what a restart remembers."""

import asyncio
import json
from itertools import count

import pytest

from forwarder.core.timing import SystemClock
from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_TOKEN,
    RatePolicy,
    Simulator,
    SimulatorSettings,
)
from forwarder.sources.cloudflare_access import answers as faults
from forwarder.sources.cloudflare_access.account import AccountConfig, RateLimit
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.rate_limit import Budget, Budgets, Priority
from forwarder.testing.clock import FakeClock

TEN_A_MINUTE = RateLimit(requests=10, per=60, share=1.0)


async def use(budget: Budget, times: int, priority: Priority = Priority.LIVE) -> None:
    for _ in range(times):
        async with budget.turn(priority):
            pass


async def test_within_the_limit_nobody_waits() -> None:
    clock = FakeClock()
    budget = Budget(TEN_A_MINUTE, clock)

    await use(budget, 10)

    assert clock.monotonic() == 0
    assert budget.left == 0


async def test_over_the_limit_one_waits_until_the_window_has_moved() -> None:
    clock = FakeClock()
    budget = Budget(TEN_A_MINUTE, clock)
    await use(budget, 10)

    async with budget.turn(Priority.LIVE) as turn:
        assert clock.monotonic() == turn.waited == 60


async def test_a_turn_is_over_whatever_became_of_the_request() -> None:
    clock = FakeClock()
    budget = Budget(RateLimit(requests=1, per=60, share=1.0), clock)
    with pytest.raises(ZeroDivisionError):
        async with budget.turn(Priority.LIVE):
            1 / 0  # noqa: B018 - fails

    await use(budget, 1)

    assert clock.monotonic() == 60


async def test_live_goes_first_then_the_nearest_to_retention_then_reconcile_then_backfill() -> None:
    budget = Budget(RateLimit(requests=1, per=10, share=1.0), FakeClock())
    served: list[str] = []

    async def ask(name: str, priority: Priority, urgency: float = 0.0) -> None:
        async with budget.turn(priority, urgency):
            served.append(name)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask("first", Priority.LIVE))
        tasks.create_task(ask("backfill", Priority.BACKFILL))
        tasks.create_task(ask("reconcile", Priority.RECONCILE))
        tasks.create_task(ask("an hour left", Priority.RETENTION, 3600))
        tasks.create_task(ask("a minute left", Priority.RETENTION, 60))
        tasks.create_task(ask("live", Priority.LIVE))
        tasks.create_task(ask("live too", Priority.LIVE))

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
    budget = Budget(TEN_A_MINUTE, FakeClock())
    served: list[str] = []

    async def ask(name: str) -> None:
        for _ in range(10):
            async with budget.turn(Priority.RECONCILE):
                served.append(name)
                await asyncio.sleep(0)

    await asyncio.gather(ask("a"), ask("b"), ask("c"))

    assert all(set(served[i : i + 3]) == {"a", "b", "c"} for i in range(0, 30, 3))


async def test_who_is_cancelled_while_waiting_makes_room() -> None:
    clock = FakeClock()
    budget = Budget(RateLimit(requests=1, per=10, share=1.0), clock)
    await use(budget, 1)
    first = asyncio.create_task(use(budget, 1))
    second = asyncio.create_task(use(budget, 1))
    await asyncio.sleep(0)

    first.cancel()
    await second

    assert clock.monotonic() == 10


async def test_a_429_holds_back_everybody_with_the_token() -> None:
    clock = FakeClock()
    budget = Budget(TEN_A_MINUTE, clock)

    assert budget.block(retry_after=240.0) == 240.0
    await asyncio.gather(use(budget, 1), use(budget, 1, Priority.BACKFILL))

    assert 240 <= clock.monotonic() <= 247
    assert budget.blocked_for == 0


async def test_a_429_without_a_time_holds_back_a_minute_and_longer_each_time() -> None:
    clock = FakeClock()
    budget = Budget(None, clock)
    waits = []
    for _ in range(5):
        waits.append(budget.block(None))
        assert budget.block(None) == waits[-1], "answers to requests that were on their way"
        await use(budget, 1)

    assert waits == [60, 120, 240, 300, 300]

    await clock.sleep(301)
    assert budget.block(None) == 60


async def test_a_block_that_begins_while_others_wait_is_obeyed_by_them() -> None:
    clock = FakeClock()
    budget = Budget(RateLimit(requests=1, per=10, share=1.0), clock)
    await use(budget, 1)
    waiting = asyncio.create_task(use(budget, 1))
    await asyncio.sleep(0)

    budget.block(100.0)
    await waiting

    assert clock.monotonic() == 100


async def test_off_waits_for_nothing_but_a_429() -> None:
    clock = FakeClock()
    budget = Budget(None, clock)
    for _ in range(2000):
        await use(budget, 1, Priority.BACKFILL)
        budget.heed({"ratelimit": '"default";r=0;t=60', "ratelimit-policy": '"default";q=1;w=60'})

    assert clock.monotonic() == 0
    assert budget.left is None


async def test_the_share_of_a_stated_policy_is_obeyed_too() -> None:
    clock = FakeClock()
    budget = Budget(RateLimit(requests=1000, per=60, share=0.5), clock)
    budget.heed({"ratelimit-policy": '"default";q=10;w=60'})

    await use(budget, 6)

    assert clock.monotonic() == 60


async def test_a_restart_remembers_the_block_and_what_was_used() -> None:
    clock = FakeClock()
    before = Budget(TEN_A_MINUTE, clock)
    await use(before, 7)
    before.block(30.0)
    snapshot = json.loads(json.dumps(before.snapshot()))
    await clock.sleep(10)

    after = Budget(TEN_A_MINUTE, clock)
    after.restore(snapshot)

    assert after.left == 3
    assert after.blocked_for == 20
    await clock.sleep(51)
    assert after.left == 10


async def test_a_clock_set_back_does_not_make_a_block_endless() -> None:
    before = Budget(TEN_A_MINUTE, FakeClock(now_us=2_000_000_000_000_000))
    before.block(300.0)

    after = Budget(TEN_A_MINUTE, FakeClock(now_us=1_000_000_000_000_000))
    after.restore(before.snapshot())

    assert after.blocked_for == 600


def account(number: int, token: str = DEFAULT_TOKEN, **more: object) -> AccountConfig:
    given = {"account_id": f"{number:032x}", "api_token": token, **more}
    return AccountConfig.model_validate(given)


async def test_accounts_with_one_token_share_one_budget() -> None:
    budgets = Budgets(FakeClock())

    assert budgets.of(account(1)) is budgets.of(account(2))
    assert budgets.of(account(3, token="another")) is not budgets.of(account(1))
    assert budgets.of(account(4, api_url="http://127.0.0.1:1")) is not budgets.of(account(1))


async def test_the_tightest_limit_of_all_accounts_with_a_token_holds() -> None:
    budgets = Budgets(FakeClock())
    ten = {"requests": 10, "per": "1m", "share": 1}

    assert budgets.of(account(1, rate_limit="off")).left is None
    assert budgets.of(account(2, rate_limit=ten)).left == 10
    assert budgets.of(account(3)).left == 10
    assert budgets.of(account(2, rate_limit={**ten, "requests": 20})).left == 20


async def test_budgets_are_remembered_by_a_hash_of_their_token() -> None:
    clock = FakeClock()
    budgets = Budgets(clock)
    budgets.of(account(1)).block(100.0)
    snapshot = json.dumps(budgets.snapshot())

    assert DEFAULT_TOKEN not in snapshot
    assert Budgets(clock, json.loads(snapshot)).of(account(1)).blocked_for == 100
    assert Budgets(clock, json.loads(snapshot)).of(account(1, token="x")).blocked_for == 0


async def test_three_accounts_in_catch_up_use_their_share_and_never_more() -> None:
    """The policy is 120 requests in any 5 s; 80 % of it, 96, is ours."""
    window, share, accounts = 5.0, 96, [f"{number:032x}" for number in (1, 2, 3)]
    settings = SimulatorSettings(
        accounts=tuple(accounts), rate=0, scim_rate=0, policy=RatePolicy(120, window)
    )
    async with Simulator(settings) as simulator:
        clock = SystemClock()
        budgets = Budgets(clock)
        configs = [
            account(
                number,
                api_url=simulator.url,
                rate_limit={"requests": 120, "per": window, "share": 0.8},
            )
            for number in (1, 2, 3)
        ]
        apis = [Api(config, budgets.of(config), clock) for config in configs]

        async def catch_up(api: Api) -> None:
            for page in count(1):
                await api.get(
                    faults.ACCESS_REQUESTS, [("page", str(page))], priority=Priority.RETENTION
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
