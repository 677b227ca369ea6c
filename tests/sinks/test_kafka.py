"""The Kafka sink keeps the sink contract, and what people expect of a Kafka producer."""

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psutil
import pytest

from forwarder.core.contracts import Sink
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.kafka import KafkaSink
from forwarder.testing.batches import batch_of, make_batch, make_event, sink_context
from forwarder.testing.sink_contract import OutageContract, SinkContract
from forwarder.testing.writing import deliver
from tests.sinks.fakes_stream.brokers import (
    MockCluster,
    create_topic,
    free_port,
    ids_in,
    read_all,
    tansu,
)
from tests.sinks.fakes_stream.toxic_proxy import ToxicProxy

_numbers = itertools.count()


def make_sink(addresses: list[str], **settings: Any) -> KafkaSink:
    given = {"bootstrap_servers": addresses, "topic": "events", **settings}
    return KafkaSink(KafkaSink.Config.model_validate(given), sink_context())


@pytest.fixture(scope="module")
def cluster() -> MockCluster:
    return MockCluster()


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


class MockDestination:
    """Idempotent writes, read back from librdkafka's mock cluster."""

    def __init__(self, cluster: MockCluster) -> None:
        self._cluster = cluster
        self._topic = f"mock-{next(_numbers)}"

    def sink(self) -> Sink:
        return make_sink(self._cluster.addresses, topic=self._topic, request_timeout=5)

    def arrived(self) -> Counter[str]:
        return ids_in(read_all(self._cluster.addresses[0], self._topic))


class TestIdempotentKafka(SinkContract):
    @pytest.fixture
    def destination(self, cluster: MockCluster) -> MockDestination:
        return MockDestination(cluster)


class TansuDestination:
    """Plain writes to a real broker behind a network that fails."""

    secrets = ()

    def __init__(self, proxy: ToxicProxy, topic: str) -> None:
        self._proxy = proxy
        self._topic = topic
        self._address = f"127.0.0.1:{proxy.port}"

    def sink(self) -> Sink:
        return make_sink([self._address], topic=self._topic, idempotent=False, request_timeout="1s")

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


async def write(sink: KafkaSink, *events: Any) -> Any:
    try:
        return await sink.write(batch_of(events))
    finally:
        await sink.aclose()


async def test_a_record_carries_key_time_and_headers(cluster: MockCluster) -> None:
    event = make_event(1)

    await write(make_sink(cluster.addresses, topic="one"), event)
    [record] = read_all(cluster.addresses[0], "one")

    assert record.value() == event.body
    assert record.key() == b"ada@example.com"
    assert record.timestamp()[1] == event.time_us // 1000
    assert record.headers() == [
        ("event_id", event.id.encode()),
        ("stream", b"access_requests"),
        ("account", b"acme"),
        ("schema", b"raw"),
        ("content-type", b"application/json"),
    ]


async def test_one_persons_events_stay_in_order_on_one_partition(cluster: MockCluster) -> None:
    people = ["ada", "bob", "cy", "di", "ed"]
    events = [make_event(n, body=b'{"n":%d}' % n)._replace(user=people[n % 5]) for n in range(500)]

    await write(make_sink(cluster.addresses, topic="people"), *events)
    places, bodies = defaultdict(set), defaultdict(list)
    for record in read_all(cluster.addresses[0], "people"):
        places[record.key()].add(record.partition())
        bodies[record.key()].append(record.value())

    assert [len(found) for found in places.values()] == [1] * 5
    for n, name in enumerate(people):
        assert bodies[name.encode()] == [b'{"n":%d}' % m for m in range(n, 500, 5)]


@pytest.mark.parametrize(
    ("key", "expected"),
    [("event_id", make_event(1).id.encode()), ("account", b"acme"), ("none", None)],
)
async def test_the_key_can_be_chosen(
    cluster: MockCluster, key: str, expected: bytes | None
) -> None:
    await write(make_sink(cluster.addresses, topic=f"key-{key}", key=key), make_event(1))

    [record] = read_all(cluster.addresses[0], f"key-{key}")

    assert record.key() == expected


async def test_the_topic_can_depend_on_the_stream(cluster: MockCluster) -> None:
    sink = make_sink(cluster.addresses, topic="access.{stream}")

    await write(sink, make_event(1), make_event(2, stream="scim_updates"))

    assert len(read_all(cluster.addresses[0], "access.access_requests")) == 1
    assert len(read_all(cluster.addresses[0], "access.scim_updates")) == 1


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_can_be_read_back(cluster: MockCluster, compression: str) -> None:
    topic = f"compressed-{compression}"
    events = make_batch(100).events

    await write(make_sink(cluster.addresses, topic=topic, compression=compression), *events)

    assert len(ids_in(read_all(cluster.addresses[0], topic))) == 100


async def test_an_event_that_fits_into_no_batch_is_rejected_with_its_size(
    cluster: MockCluster,
) -> None:
    sink = make_sink(cluster.addresses, topic="large", max_message_bytes=10_000)

    result = await write(sink, make_event(1), make_event(2, body=b"x" * 10_001), make_event(3))

    assert [rejection.offset for rejection in result.rejected] == [2]
    assert "10001 bytes" in result.rejected[0].reason
    assert len(read_all(cluster.addresses[0], "large")) == 2


async def test_more_than_one_batch_for_a_partition_arrives_in_order(cluster: MockCluster) -> None:
    events = [make_event(n, body=b"%06d" % n + b"x" * 2000) for n in range(200)]

    await write(make_sink(cluster.addresses, topic="many", max_message_bytes=20_000), *events)

    values = [record.value() for record in read_all(cluster.addresses[0], "many")]
    assert values == [event.body for event in events]


async def test_nobody_there_is_an_outage_not_a_missing_topic() -> None:
    sink = make_sink([f"127.0.0.1:{free_port()}"], request_timeout="300ms")

    with pytest.raises(TransientError) as caught:
        await sink.open()

    assert not isinstance(caught.value, NeedsOperatorError)
    await sink.aclose()


async def test_an_outage_of_an_idempotent_producer_ends_in_time_and_leaves_nothing() -> None:
    """By itself aiokafka would try for ever here, and not even stop."""
    cluster = MockCluster()
    sink = make_sink(cluster.addresses, request_timeout="200ms")
    await deliver(sink, make_batch(3))
    cluster.die()
    loop = asyncio.get_running_loop()
    started = loop.time()

    for _ in range(5):
        with pytest.raises(TransientError):
            await sink.write(make_batch(3))
    await sink.aclose()

    assert loop.time() - started < 5
    assert asyncio.all_tasks() == {asyncio.current_task()}


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


async def deliver_at_last(sink: KafkaSink, batch: Any) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await sink.write(batch)
            except TransientError:
                await asyncio.sleep(0.02)
            else:
                return
