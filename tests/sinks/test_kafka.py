"""The Kafka sink keeps the sink contract, and what people expect of a Kafka producer."""

import itertools
from collections import Counter, defaultdict
from typing import Any

import pytest

from forwarder.core.contracts import Sink
from forwarder.sinks.kafka import KafkaSink
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from forwarder.testing.sink_contract import SinkContract
from tests.sinks.fakes_stream.brokers import (
    MockCluster,
    ids_in,
    read_all,
)

_numbers = itertools.count()


def make_sink(addresses: list[str], **settings: Any) -> KafkaSink:
    given = {"bootstrap_servers": addresses, "topic": "events", **settings}
    return KafkaSink(KafkaSink.Config.model_validate(given), sink_context())


@pytest.fixture(scope="module")
def cluster() -> MockCluster:
    return MockCluster()


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
