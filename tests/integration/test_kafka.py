"""The Kafka sink against Apache Kafka 4."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.kafka import KafkaSink
from forwarder.testing.destinations import deliver, deliver_at_last
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from forwarder.testing.network import ToxicProxy
from tests.integration.conftest import ABANDONED, Start
from tests.integration.kafka.server import KafkaServer, kafka_server
from tests.sinks.fakes_stream.brokers import create_topic, ids_in, read_all

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("abandoned"),
    ABANDONED,
]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def proxy() -> Iterator[ToxicProxy]:
    with ToxicProxy() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def server(
    start: Start[KafkaServer], proxy: ToxicProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KafkaServer]:
    folder = tmp_path_factory.mktemp("kafka")
    for server in start("Apache Kafka", lambda: kafka_server(folder, proxy.port)):
        proxy.upstream = server.toxic_port
        yield server


def new_topic(server: KafkaServer, **config: str) -> str:
    name = f"topic-{next(_numbers)}"
    create_topic(server.address, name, config=config)
    return name


def make_sink(address: str, topic: str, **settings: Any) -> KafkaSink:
    given = {"bootstrap_servers": [address], "topic": topic, **settings}
    return KafkaSink(KafkaSink.Config.model_validate(given), sink_context())


def committed(server: KafkaServer, topic: str) -> list[Any]:
    return read_all(server.address, topic, **{"isolation.level": "read_committed"})


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_events_are_there_once(server: KafkaServer, compression: str) -> None:
    topic = new_topic(server)
    sink = make_sink(server.address, topic, compression=compression)

    for number in range(5):
        await deliver(sink, make_batch(200, first_offset=200 * number))
    await sink.aclose()

    found = ids_in(read_all(server.address, topic))
    assert len(found) == 1000
    assert set(found.values()) == {1}


async def test_scram_over_tls(server: KafkaServer) -> None:
    topic = new_topic(server)
    sink = make_sink(
        f"127.0.0.1:{server.safe_port}",
        topic,
        tls={"ca_file": server.ca_file},
        sasl={"username": server.user, "password": server.password},
    )

    await deliver(sink, make_batch(100))
    await sink.aclose()

    assert len(ids_in(read_all(server.address, topic))) == 100


async def test_a_wrong_password_needs_an_operator(server: KafkaServer) -> None:
    sink = make_sink(
        f"127.0.0.1:{server.safe_port}",
        "any",
        tls={"ca_file": server.ca_file},
        sasl={"username": server.user, "password": "wrong-password"},
    )

    with pytest.raises(NeedsOperatorError, match="do not accept our log-in") as caught:
        await sink.open()
    await sink.aclose()

    assert "wrong-password" not in repr(caught.value.__cause__)


async def test_a_mechanism_that_is_not_offered_needs_an_operator(server: KafkaServer) -> None:
    sasl = {"mechanism": "PLAIN", "username": "u", "password": "p"}
    tls = {"ca_file": server.ca_file}
    sink = make_sink(f"127.0.0.1:{server.safe_port}", "any", tls=tls, sasl=sasl)

    with pytest.raises(NeedsOperatorError, match="do not offer this SASL mechanism"):
        await sink.open()
    await sink.aclose()


async def test_an_unknown_authority_needs_an_operator(server: KafkaServer) -> None:
    sasl = {"username": server.user, "password": server.password}
    sink = make_sink(f"127.0.0.1:{server.safe_port}", "any", tls={}, sasl=sasl)

    with pytest.raises(NeedsOperatorError, match="the certificate of the Kafka broker") as caught:
        await sink.open()
    await sink.aclose()
    await asyncio.sleep(0.05)  # asyncio closes a socket after a failed handshake a turn later

    assert "tls.ca_file" in caught.value.hint


async def test_a_missing_topic_needs_an_operator(server: KafkaServer) -> None:
    sink = make_sink(server.address, "missing")

    await sink.open()
    with pytest.raises(NeedsOperatorError, match=r"does not exist \(missing\)"):
        await sink.write(make_batch(1))
    findings = await sink.diagnose()
    await sink.aclose()

    assert ("warning", "topic") in [(finding.level, finding.subject) for finding in findings]


async def test_a_missing_permission_needs_an_operator(server: KafkaServer) -> None:
    topic = new_topic(server)
    deny = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        f"User:{server.user}",
        "*",
        AclOperation.WRITE,
        AclPermissionType.DENY,
    )
    admin = AdminClient({"bootstrap.servers": server.address})
    for future in admin.create_acls([deny]).values():
        future.result(60)
    sink = make_sink(
        f"127.0.0.1:{server.safe_port}",
        topic,
        tls={"ca_file": server.ca_file},
        sasl={"username": server.user, "password": server.password},
    )

    with pytest.raises(NeedsOperatorError, match="no permission for the topic") as caught:
        await sink.write(make_batch(1))
    await sink.aclose()

    assert "Write" in caught.value.hint


async def test_a_record_that_is_larger_than_the_topic_takes_is_found_and_rejected(
    server: KafkaServer,
) -> None:
    topic = new_topic(server, **{"max.message.bytes": "20000"})
    sink = make_sink(server.address, topic, compression="none")
    events = [make_event(n, body=b'{"id":"%032d"}' % n + b"x" * 500) for n in range(100)]
    events[37] = make_event(37, body=b"y" * 30_000)

    result = await sink.write(batch_of(events))
    await sink.aclose()

    assert [rejection.offset for rejection in result.rejected] == [37]
    assert "30000 bytes are more than the topic takes" in result.rejected[0].reason
    assert sum(ids_in(read_all(server.address, topic)).values()) == 99


async def test_a_refused_timestamp_is_sent_as_now_with_the_original_in_a_header(
    server: KafkaServer,
) -> None:
    topic = new_topic(server, **{"message.timestamp.before.max.ms": "86400000"})
    sink = make_sink(server.address, topic)
    batches = [make_batch(50, first_offset=50 * number) for number in range(8)]

    await asyncio.gather(*(deliver(sink, batch) for batch in batches))
    await sink.aclose()

    records = read_all(server.address, topic)
    assert set(ids_in(records).values()) == {1}
    assert len(records) == 400
    for record in records:
        assert time.time() * 1000 - record.timestamp()[1] < 60_000
        assert dict(record.headers())["event_time"].startswith(b"2026-01-01T00:")


async def test_one_topic_that_takes_nothing_does_not_repeat_what_the_other_took(
    server: KafkaServer,
) -> None:
    """A compacted topic takes no record without a key."""
    name = new_topic(server)
    create_topic(server.address, f"{name}.access_requests")
    create_topic(server.address, f"{name}.scim_updates", config={"cleanup.policy": "compact"})
    sink = make_sink(server.address, name + ".{stream}")
    changes = [make_event(n, stream="scim_updates")._replace(user="") for n in range(50, 60)]

    result = await sink.write(batch_of([*make_batch(50).events, *changes]))
    with pytest.raises(TransientError, match="UnknownError") as caught:
        await sink.write(batch_of(changes))
    await sink.aclose()

    assert "without a key" in caught.value.hint
    assert result.deferred == {event.offset for event in changes}
    assert set(ids_in(read_all(server.address, f"{name}.access_requests")).values()) == {1}


async def test_a_killed_broker_costs_time_and_no_event(server: KafkaServer) -> None:
    topic = new_topic(server)
    sink = make_sink(server.address, topic, request_timeout="2s")
    await deliver(sink, make_batch(100))
    server.kill()

    with pytest.raises(TransientError):
        await sink.write(make_batch(100, first_offset=100))
    await asyncio.to_thread(server.start)
    await deliver_at_last(sink, make_batch(100, first_offset=100))
    await sink.aclose()

    assert len(ids_in(read_all(server.address, topic))) == 200


async def test_closing_while_the_broker_is_down_does_not_wait_for_it(server: KafkaServer) -> None:
    topic = new_topic(server)
    sink = make_sink(server.address, topic, request_timeout="60s")
    await deliver(sink, make_batch(100))
    server.kill()
    writing = asyncio.create_task(sink.write(make_batch(100)))
    await asyncio.sleep(0.3)

    async with asyncio.timeout(40):  # less than the timeout of the request
        writing.cancel()
        await asyncio.wait([writing])
        await sink.aclose()

    assert asyncio.all_tasks() == {asyncio.current_task()}
    await asyncio.to_thread(server.start)


async def test_a_transaction_is_seen_whole_or_not_at_all(server: KafkaServer) -> None:
    topic = new_topic(server, **{"max.message.bytes": "20000"})
    sink = make_sink(server.address, topic, transactional_id="whole", compression="none")
    await deliver(sink, make_batch(100))

    large = [make_event(n, body=b"y" * 30_000) for n in (200, 201)]
    result = await sink.write(batch_of([*make_batch(50, first_offset=100).events, *large]))
    await sink.aclose()

    assert {rejection.offset for rejection in result.rejected} == {200, 201}
    found = ids_in(committed(server, topic))
    assert len(found) == 150
    assert set(found.values()) == {1}


async def test_a_cancelled_transaction_is_never_seen(server: KafkaServer) -> None:
    topic = new_topic(server)
    sink = make_sink(server.address, topic, transactional_id="cancelled")
    await sink.open()
    for turns in range(1, 60, 3):
        writing = asyncio.create_task(sink.write(make_batch(20, first_offset=20 * turns)))
        for _ in range(turns):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait([writing])

    await deliver_at_last(sink, make_batch(20, first_offset=0))
    await sink.aclose()

    found = ids_in(committed(server, topic))
    whole = [make_batch(20, first_offset=20 * turns) for turns in range(60)]
    for batch in whole:
        present = {event.id for event in batch.events} & set(found)
        assert len(present) in (0, 20)
    assert len(found) >= 20


async def test_the_second_sink_with_one_transactional_id_shuts_the_first_out(
    server: KafkaServer,
) -> None:
    topic = new_topic(server)
    first = make_sink(server.address, topic, transactional_id="shared")
    second = make_sink(server.address, topic, transactional_id="shared")
    await deliver(first, make_batch(10))
    await deliver(second, make_batch(10, first_offset=10))

    with pytest.raises(NeedsOperatorError, match="another producer uses our transactional_id"):
        await first.write(make_batch(10, first_offset=20))
    await first.aclose()
    await second.aclose()


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_hundred_outages_leave_tasks_and_memory_where_they_were(
    server: KafkaServer, proxy: ToxicProxy, *, idempotent: bool
) -> None:
    topic = new_topic(server)
    address = f"127.0.0.1:{proxy.port}"
    sink = make_sink(address, topic, idempotent=idempotent, request_timeout="300ms")
    written, sizes = 0, []
    for number in range(100):
        sizes.append(psutil.Process().memory_info().rss)
        proxy.swallow = number % 2 == 0
        if not proxy.swallow:
            proxy.reset()
        try:
            await asyncio.wait_for(sink.write(make_batch(10, first_offset=10 * number)), 0.3)
            written += 1
        except (TransientError, TimeoutError):
            proxy.swallow = False
            await deliver_at_last(sink, make_batch(10, first_offset=10 * number))
    await sink.aclose()

    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert sizes[-1] - sizes[20] < 8_000_000
    assert len(ids_in(read_all(server.address, topic))) == 1000
    assert written < 100
