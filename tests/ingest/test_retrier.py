"""What fails is tried again for as long as it takes, and everybody can see why."""

import asyncio
from random import Random
from typing import Any, cast

from forwarder.core.contracts import StreamKey
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.telemetry import TelemetryEvent
from forwarder.ingest.events import FetchFailed, FetchRecovered
from forwarder.ingest.poller import phase
from forwarder.ingest.rounds import Retrier, StreamContext
from tests.ingest.virtual_time import VirtualClock

NOBODY = cast("Any", None)


class Rig:
    """Somebody patient, and an attempt that fails as ordered."""

    def __init__(self, *failures: TransientError) -> None:
        self.failures = list(failures)
        self.clock = VirtualClock(0)
        self.reported: list[TelemetryEvent] = []
        self.beats = 0
        self.retrier = Retrier(
            StreamContext(
                key=StreamKey("a" * 32, "access_requests"),
                account="acme",
                source=NOBODY,
                log=NOBODY,
                gate=NOBODY,
                clock=self.clock,
                rng=Random(1),
                emit=self.reported.append,
                beat=self._beat,
                retention=86_400.0,
            )
        )

    def begin(self) -> asyncio.Task[str]:
        return asyncio.create_task(self.retrier.until_done("live", self._attempt))

    async def _attempt(self) -> str:
        if self.failures:
            raise self.failures.pop(0)
        return "done"

    def _beat(self) -> None:
        self.beats += 1


async def test_what_succeeds_is_returned_and_not_talked_about() -> None:
    rig = Rig()

    assert await rig.begin() == "done"
    assert rig.reported == []


async def test_failures_are_waited_out_and_reported_until_it_succeeds() -> None:
    rig = Rig(*[TransientError("no room", hint="make some")] * 3)
    attempt = rig.begin()
    await rig.clock.advance(100)

    assert attempt.done()
    failed = [one for one in rig.reported if isinstance(one, FetchFailed)]
    assert [(one.error, one.hint, one.attempt, one.reason) for one in failed] == [
        ("no room", "make some", number, "outage") for number in (1, 2, 3)
    ]
    assert isinstance(rig.reported[-1], FetchRecovered)
    assert rig.retrier.failures == {}
    assert rig.beats == 4


async def test_a_trouble_is_remembered_while_it_lasts() -> None:
    rig = Rig(*[NeedsOperatorError("wrong token", hint="put another")] * 50)
    attempt = rig.begin()
    await rig.clock.advance(100)

    trouble = rig.retrier.failures["live"]
    assert (trouble.error, trouble.held, trouble.since) == ("wrong token", True, 0.0)
    assert 2 <= trouble.attempts <= 14
    attempt.cancel()


async def test_what_the_other_side_asks_for_is_the_least_wait() -> None:
    rig = Rig(TransientError("busy", retry_after=90.0))
    attempt = rig.begin()
    await rig.clock.advance(89)
    assert not attempt.done()

    await rig.clock.advance(2)

    assert attempt.done()


async def test_waking_ends_the_wait() -> None:
    rig = Rig(NeedsOperatorError("wrong token", retry_after=3000.0))
    attempt = rig.begin()
    await rig.clock.advance(1)

    rig.retrier.wake()
    await rig.clock.advance(1)

    assert attempt.done()


async def test_a_stream_says_how_it_is() -> None:
    rig = Rig(NeedsOperatorError("wrong token"), *[TransientError("busy")] * 50)
    attempt = rig.begin()
    await rig.clock.advance(1)
    held = rig.retrier.failures["live"]
    await rig.clock.advance(100)
    passing = rig.retrier.failures["live"]
    attempt.cancel()

    assert phase(held, started=True, gated=True, parts=()) == "held"
    assert phase(passing, started=False, gated=True, parts=()) == "waiting"
    assert phase(None, started=False, gated=True, parts=()) == "starting"
    assert phase(None, started=True, gated=True, parts=()) == "gated"
    assert phase(None, started=True, gated=False, parts=()) == "idle"
    assert phase(None, started=True, gated=False, parts=None) == "running"
