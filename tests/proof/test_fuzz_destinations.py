"""Whatever a destination answers, a sink ends its writes soon, with what is documented."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from forwarder.core.contracts import Batch, Rejection, WriteResult
from forwarder.core.errors import ForwarderError
from forwarder.sinks.elasticsearch import ElasticsearchSink
from forwarder.sinks.relp import RelpSink
from forwarder.sinks.splunk_hec import SplunkHecSink
from forwarder.sinks.syslog import SyslogSink
from forwarder.testing.fake_sinks import make_batch, sink_context
from tests.proof.answering import (
    Serve,
    bulk_answer,
    hec_answer,
    over_http,
    over_relp,
    over_syslog,
    served,
)
from tests.proof.ledger import Ledger
from tests.proof.mutations import SECRET
from tests.proof.test_fuzz import UndocumentedError

_OWN = 1.0
_LONGEST = 5.0
_BATCHES = 4
_AT_ONCE = 20
AnySink = SplunkHecSink | ElasticsearchSink | RelpSink | SyslogSink
_WAITS = "still waiting, which the engine ends"
_HTTP = {"connect_timeout": _OWN, "response_timeout": _OWN}
_HEC = {"token": SECRET, "ack_timeout": _OWN, "ack_interval": 0.05, **_HTTP}
_SINKS: dict[str, Callable[[int], AnySink]] = {
    "splunk_hec": lambda port: SplunkHecSink(
        SplunkHecSink.Config.model_validate({"url": f"http://127.0.0.1:{port}", **_HEC}),
        sink_context(),
    ),
    "elasticsearch": lambda port: ElasticsearchSink(
        ElasticsearchSink.Config.model_validate(
            {"url": f"http://127.0.0.1:{port}", "api_key": SECRET, **_HTTP}
        ),
        sink_context(),
    ),
    "relp": lambda port: RelpSink(
        RelpSink.Config.model_validate(
            {"host": "127.0.0.1", "port": port, "connect_timeout": _OWN}
        ),
        sink_context(),
    ),
    "syslog": lambda port: SyslogSink(
        SyslogSink.Config.model_validate(
            {"host": "127.0.0.1", "port": port, "transport": "tcp", "connect_timeout": _OWN}
        ),
        sink_context(),
    ),
}
_SERVES: dict[str, Callable[[Random], Serve]] = {
    "splunk_hec": lambda rng: over_http(hec_answer, rng),
    "elasticsearch": lambda rng: over_http(bulk_answer, rng),
    "relp": over_relp,
    "syslog": over_syslog,
}
_CUT = {"relp": _OWN, "syslog": _OWN}
"""Seconds after which the engine ends a write of a sink that leaves waiting to it."""


def sorted_out(result: WriteResult, batch: Batch) -> str:
    """Return what became of a batch; raises where an event has two fates or none of ours."""
    offsets = {event.offset for event in batch.events}
    rejected = [rejection.offset for rejection in result.rejected]
    if len(set(rejected)) < len(rejected) or result.deferred & set(rejected):
        raise UndocumentedError(f"an event with two fates: {result}")
    if not {*rejected, *result.deferred} <= offsets:
        raise UndocumentedError(f"a fate of an event that was not sent: {result}")
    if SECRET in repr(result):
        raise UndocumentedError("a secret is shown")
    return "taken in parts" if rejected or result.deferred else "taken"


async def ended(call: Callable[[], Awaitable[str]], kind: str) -> str:
    """Return how a call ended; raises when that is not documented, or took too long."""
    began = time.monotonic()
    try:
        outcome = await asyncio.wait_for(call(), _CUT.get(kind, _OWN * 4 + _LONGEST))
    except ForwarderError as error:
        if SECRET in f"{error} {error!r} {error.__cause__!r}":
            raise UndocumentedError("a secret is shown") from error
        return type(error).__name__
    except TimeoutError as error:
        if kind not in _CUT:
            raise UndocumentedError(f"{time.monotonic() - began:.1f} s and no end") from error
        return _WAITS
    except Exception as error:
        raise UndocumentedError(repr(error)) from error
    return outcome


async def conversation(kind: str, rng: Random) -> Counter[str]:
    """Let a sink talk to a destination that says something wrong now and then."""
    async with served(_SERVES[kind](rng)) as port:
        return await used(_SINKS[kind](port), kind)


async def used(sink: AnySink, kind: str) -> Counter[str]:
    """Open a sink, write batches whatever has happened before, let it diagnose, close it."""
    found = Counter[str]()

    async def opened() -> str:
        await sink.open()
        return "opened"

    async def written() -> str:
        batch = make_batch(3)
        return sorted_out(await sink.write(batch), batch)

    async def diagnosed() -> str:
        if SECRET in repr(await sink.diagnose()):
            raise UndocumentedError("a secret is shown")
        return "diagnosed"

    try:
        found[await ended(opened, kind)] += 1
        for _ in range(_BATCHES):
            found[await ended(written, kind)] += 1
        found[await ended(diagnosed, kind)] += 1
    finally:
        await asyncio.wait_for(sink.aclose(), _LONGEST)
    return found


class _Trusting(SplunkHecSink):
    """Reads an answer as if it had to be what it should be."""

    async def write(self, batch: Batch) -> WriteResult:
        raise KeyError(batch.events[0].offset)


class _Twofold(SplunkHecSink):
    """Puts off what it also gives up."""

    async def write(self, batch: Batch) -> WriteResult:
        first = batch.events[0].offset
        return WriteResult((Rejection(first, "refused"),), frozenset({first}))


@pytest.mark.parametrize(
    ("mistaken", "fault"),
    [(_Trusting, "an answer that is trusted"), (_Twofold, "an event refused and put off at once")],
)
async def test_a_mistaken_sink_is_found(
    mistaken: type[SplunkHecSink], fault: str, ledger: Ledger
) -> None:
    config = SplunkHecSink.Config.model_validate({"url": "http://127.0.0.1:9", **_HEC})
    with pytest.raises(UndocumentedError) as found:
        await used(mistaken(config, sink_context()), "splunk_hec")

    ledger.plant("Fuzz", f"{fault} (answers of a destination)", found.value)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", _SINKS)
async def test_any_answer_of_a_destination_is_understood_or_refused(
    kind: str, ledger: Ledger, *, long: bool
) -> None:
    times, found = 5_000 if long else 200, Counter[str]()
    for first in range(0, times, _AT_ONCE):
        group = (conversation(kind, Random(seed)) for seed in range(first, first + _AT_ONCE))
        for outcomes in await asyncio.gather(*group):
            found += outcomes

    assert found["taken"] > times // 10
    ledger.row(
        "Fuzz", f"answers of a destination: {kind}", times=times,
        more=f"{_BATCHES} writes each; "
        + ", ".join(f"{name}: {number}" for name, number in sorted(found.items())),
    )  # fmt: skip
