"""When a credential ends is asked once an hour, and nothing is said where nobody knows."""

from __future__ import annotations

import asyncio

from forwarder.core.errors import NeedsOperatorError
from forwarder.core.telemetry import TelemetryEvent
from forwarder.observe.counting import count
from forwarder.observe.events import CredentialSeen
from forwarder.observe.metrics import Metrics
from forwarder.runtime.workers import watch_credential
from forwarder.testing.clock import FakeClock


class Source:
    """Cloudflare as it answers one time after the other."""

    def __init__(self, *answers: float | Exception | None) -> None:
        self.answers = list(answers)
        self.asked: list[float] = []

    async def credential_expires_s(self) -> float | None:
        self.asked.append(CLOCK.monotonic())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if not self.answers:
            asyncio.current_task().cancel()  # type: ignore[union-attr]
        return answer


CLOCK = FakeClock()


async def test_it_asks_once_an_hour_and_a_refusal_changes_nothing() -> None:
    source, seen = Source(5.0, NeedsOperatorError("revoked"), None, 7.0), list[TelemetryEvent]()
    began = CLOCK.monotonic()
    task = asyncio.create_task(watch_credential(source, "acme", CLOCK, seen.append, lambda: None))
    await asyncio.gather(task, return_exceptions=True)

    assert [at - began for at in source.asked] == [60.0, 3660.0, 7260.0, 10860.0]
    assert seen == [CredentialSeen("acme", end) for end in (5.0, None, 7.0, None)]


def test_an_end_that_nobody_knows_is_not_shown() -> None:
    metrics = Metrics()

    def shown() -> float | None:
        name = "forwarder_token_expires_timestamp_seconds"
        return metrics.registry.get_sample_value(name, {"account": "acme"})

    count(CredentialSeen("acme", 5.0), metrics)
    assert shown() == 5.0
    count(CredentialSeen("acme", None), metrics)
    count(CredentialSeen("acme", None), metrics)
    assert shown() is None
