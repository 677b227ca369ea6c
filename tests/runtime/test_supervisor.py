"""Tasks that crash start again; tasks that fall silent are named."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from forwarder.core.errors import TransientError
from forwarder.core.telemetry import TelemetryEvent
from forwarder.observe.events import JournalTroubled, TaskCrashed
from forwarder.runtime.supervisor import Supervisor


class Clock:
    """Sleeps at once; time is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def now_us(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[TelemetryEvent]:
    return []


@pytest.fixture
def supervisor(clock: Clock, told: list[TelemetryEvent]) -> Supervisor:
    return Supervisor(clock, Random(1), told.append)


async def test_a_task_that_crashes_starts_again_after_a_growing_pause(
    supervisor: Supervisor, clock: Clock, told: list[TelemetryEvent]
) -> None:
    runs = 0

    async def work(_: Callable[[], None]) -> None:
        nonlocal runs
        runs += 1
        if runs < 8:
            raise RuntimeError(f"crash {runs}")

    supervisor.start("poll:a", work)
    await supervisor.join("poll:a")

    assert runs == 8
    assert [str(one.error) for one in told if isinstance(one, TaskCrashed)] == [
        f"crash {number}" for number in range(1, 8)
    ]
    assert max(clock.slept) <= 30
    assert sum(clock.slept[4:]) > sum(clock.slept[:3])


class FailingOnce:
    """Work that fails the first time that it runs."""

    def __init__(self, fail: Callable[[], Awaitable[None]]) -> None:
        self.runs = 0
        self._fail = fail

    async def __call__(self, _: Callable[[], None]) -> None:
        self.runs += 1
        if self.runs == 1:
            await self._fail()


async def test_an_outage_of_the_journal_is_not_told_as_a_fault_of_the_program(
    supervisor: Supervisor, told: list[TelemetryEvent]
) -> None:
    async def fail() -> None:
        raise TransientError("the database is away", hint="start it")

    work = FailingOnce(fail)
    supervisor.start("requests", work)
    await supervisor.join("requests")

    assert [JournalTroubled("requests: the database is away", "start it")] == told
    assert 2 == work.runs


async def test_a_group_with_one_error_is_told_as_that_error(
    supervisor: Supervisor, told: list[TelemetryEvent]
) -> None:
    async def fail() -> None:
        raise KeyError("inner")

    async def fail_in_a_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    supervisor.start("x", FailingOnce(fail_in_a_group))
    await supervisor.join("x")

    (crash,) = told
    assert isinstance(crash, TaskCrashed)
    assert isinstance(crash.error, KeyError)


async def test_a_stopped_task_is_cancelled_and_gone(supervisor: Supervisor) -> None:
    ended = asyncio.Event()

    async def work(_: Callable[[], None]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    supervisor.start("x", work)
    await asyncio.sleep(0)
    await supervisor.stop("x", "never started")

    assert ended.is_set()
    assert supervisor.states() == []


async def test_a_task_is_stopped_while_something_in_it_fails(
    supervisor: Supervisor, told: list[TelemetryEvent]
) -> None:
    """A group of tasks then raises the failure and forgets the cancellation."""

    async def fail_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("the connection is gone")

    runs = 0

    async def work(_: Callable[[], None]) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail_at_the_end())
                await asyncio.Event().wait()

    supervisor.start("stream:a", work)
    await asyncio.sleep(0.01)
    await supervisor.stop_all()

    assert runs == 1
    assert supervisor.states() == []
    assert told == []


async def test_a_silent_task_is_stuck_until_it_beats(supervisor: Supervisor, clock: Clock) -> None:
    again = asyncio.Event()

    async def work(beat: Callable[[], None]) -> None:
        await again.wait()
        beat()
        await asyncio.Event().wait()

    supervisor.start("x", work, silent_for=10)
    await asyncio.sleep(0)
    clock.now = 11
    assert [state.stuck for state in supervisor.states()] == [True]
    again.set()
    await asyncio.sleep(0.01)

    assert [state.stuck for state in supervisor.states()] == [False]
    await supervisor.stop_all()


async def test_a_task_is_failing_until_it_was_calm_for_a_minute(
    supervisor: Supervisor, clock: Clock
) -> None:
    runs = 0

    async def work(_: Callable[[], None]) -> None:
        nonlocal runs
        runs += 1
        if runs <= 3:
            raise RuntimeError("again")
        await asyncio.Event().wait()

    supervisor.start("x", work)
    failing = []
    while runs < 4:
        failing.append(supervisor.states()[0].failing)
        await asyncio.sleep(0)
    (state,) = supervisor.states()
    clock.now += 61
    (later,) = supervisor.states()
    await supervisor.stop_all()

    assert not failing[0]
    assert state.failing
    assert not later.failing
    assert later.crashes == 3


async def test_two_tasks_of_one_name_are_a_mistake(supervisor: Supervisor) -> None:
    async def work(_: Callable[[], None]) -> None:
        await asyncio.Event().wait()

    supervisor.start("x", work)
    with pytest.raises(ValueError, match="x runs already"):
        supervisor.start("x", work)
    await supervisor.stop_all()
