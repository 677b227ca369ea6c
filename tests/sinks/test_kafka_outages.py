"""The Kafka sink when brokers or the network are away: it ends in time and leaves nothing."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psutil
import pytest

from forwarder.core.contracts import Sink
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.kafka import KafkaSink
from forwarder.testing.destinations import deliver, deliver_at_last
from forwarder.testing.fake_sinks import make_batch, sink_context
from forwarder.testing.network import ToxicProxy, free_port
from forwarder.testing.sink_contract import OutageContract
from tests.sinks.fakes_stream.brokers import (
    MockCluster,
    create_topic,
    ids_in,
    read_all,
    tansu,
)

_numbers = itertools.count()


def make_sink(addresses: list[str], **settings: Any) -> KafkaSink:
    given = {"bootstrap_servers": addresses, "topic": "events", **settings}
    return KafkaSink(KafkaSink.Config.model_validate(given), sink_context())


@pytest.fixture(scope="module")
def proxy() -> Iterator[ToxicProxy]:
    with ToxicProxy() as proxy, tansu(proxy.port) as port:
        proxy.upstream = port
        yield proxy


@pytest.fixture
def topic(proxy: ToxicProxy) -> str:
    name = f"topic-{next(_numbers)}"
    create_topic(f"127.0.0.1:{proxy.port}", name)
    return name


class TansuDestination:
    """Plain writes to a real broker behind a network that fails."""

    secrets = ()

    def __init__(self, proxy: ToxicProxy, topic: str) -> None:
        self._proxy = proxy
        self._topic = topic
        self._address = f"127.0.0.1:{proxy.port}"

    def sink(self) -> Sink:
        return make_sink(
            [self._address], topic=self._topic, idempotent=False, request_timeout="400ms"
        )

    def arrived(self) -> Counter[str]:
        return ids_in(read_all(self._address, self._topic))

    def requests(self) -> int:
        return 0

    async def go_down(self) -> None:
        self._proxy.refuse()

    async def hang(self) -> None:
        self._proxy.swallow = True

    async def come_back(self) -> None:
        self._proxy.swallow = False
        self._proxy.accept()


class TestKafkaBehindAFaultyNetwork(OutageContract):
    @pytest.fixture
    async def destination(self, proxy: ToxicProxy, topic: str) -> AsyncIterator[TansuDestination]:
        destination = TansuDestination(proxy, topic)
        yield destination
        await destination.come_back()


async def test_nobody_there_is_an_outage_not_a_missing_topic() -> None:
    sink = make_sink([f"127.0.0.1:{free_port()}"], request_timeout="300ms")

    with pytest.raises(TransientError) as caught:
        await sink.open()

    assert not isinstance(caught.value, NeedsOperatorError)
    await sink.aclose()


async def test_an_outage_of_an_idempotent_producer_ends_in_time_and_leaves_nothing() -> None:
    """By itself aiokafka would try for ever here, and not even stop."""
    cluster = MockCluster()
    sink = make_sink(cluster.addresses, request_timeout="2s")
    await deliver(sink, make_batch(3))
    cluster.die()

    async with asyncio.timeout(60):
        for _ in range(3):
            with pytest.raises(TransientError):
                await sink.write(make_batch(3))
        await sink.aclose()

    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_one_write_that_is_given_up_does_not_leave_the_others_hanging(
    proxy: ToxicProxy, topic: str
) -> None:
    address = f"127.0.0.1:{proxy.port}"
    sink = make_sink([address], topic=topic, idempotent=False, request_timeout="60s")
    await deliver(sink, make_batch(1))
    proxy.swallow = True
    first = asyncio.create_task(sink.write(make_batch(1)))
    second = asyncio.create_task(sink.write(make_batch(1)))
    await asyncio.sleep(0.05)

    first.cancel()

    with pytest.raises(TransientError):
        await asyncio.wait_for(second, 30)
    proxy.swallow = False
    await sink.aclose()


class _Unhashable:
    """A stranger whose method happens to run while a producer is taken apart."""

    __hash__ = None  # type: ignore[assignment]

    async def wait(self, end: asyncio.Event) -> str:
        await end.wait()
        return "left alone"


async def test_taking_a_producer_apart_leaves_other_tasks_alone(
    proxy: ToxicProxy, topic: str
) -> None:
    end = asyncio.Event()
    stranger = asyncio.create_task(_Unhashable().wait(end))
    address = f"127.0.0.1:{proxy.port}"
    sink = make_sink([address], topic=topic, idempotent=False, request_timeout="100ms")
    await deliver(sink, make_batch(1))
    proxy.swallow = True

    with pytest.raises(TransientError):
        await sink.write(make_batch(1))
    proxy.swallow = False
    await sink.aclose()
    end.set()

    assert await stranger == "left alone"


async def test_a_hundred_outages_leave_tasks_and_memory_where_they_were(
    proxy: ToxicProxy, topic: str
) -> None:
    address = f"127.0.0.1:{proxy.port}"
    sink = make_sink([address], topic=topic, idempotent=False, request_timeout="300ms")
    batch = make_batch(100)
    await deliver(sink, batch)
    sizes = []

    for number in range(100):
        await _interrupted(sink, proxy, swallow=number % 2 == 0)
        sizes.append(psutil.Process().memory_info().rss)
    await deliver_at_last(sink, batch)
    await sink.aclose()

    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert sizes[-1] - sizes[20] < 4_000_000


async def _interrupted(sink: KafkaSink, proxy: ToxicProxy, *, swallow: bool) -> None:
    """Let one write meet a black hole or a reset, in time for the engine's own time-out."""
    proxy.swallow = swallow
    if not swallow:
        proxy.reset()
    writing = asyncio.create_task(sink.write(make_batch(100)))
    await asyncio.wait([writing], timeout=0.05)
    writing.cancel()
    await asyncio.wait([writing])
    proxy.swallow = False
    if not writing.cancelled():
        assert isinstance(writing.exception(), TransientError | None)
