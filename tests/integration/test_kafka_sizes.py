"""Record batches are sized before they are compressed; Apache Kafka limits what travels."""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from forwarder.sinks.kafka import KafkaSink
from forwarder.testing.fake_sinks import batch_of, make_event, sink_context
from tests.integration.conftest import ABANDONED, Start
from tests.integration.kafka.server import KafkaServer, kafka_server
from tests.sinks.fakes_stream.brokers import create_topic, ids_in, read_all

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("abandoned"),
    ABANDONED,
]


@pytest.fixture(scope="module")
def server(
    start: Start[KafkaServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KafkaServer]:
    folder = tmp_path_factory.mktemp("kafka")
    yield from start("Apache Kafka", lambda: kafka_server(folder, 9))


@pytest.mark.parametrize("settings", [{}, {"transactional_id": "sizes"}, {"idempotent": False}])
async def test_events_that_hardly_shrink_arrive_once_and_in_order(
    server: KafkaServer, settings: dict[str, Any]
) -> None:
    topic = f"sizes-{len(settings)}-{min(settings, default='')}"
    create_topic(server.address, topic, config={"max.message.bytes": "20000"})
    config = {"topic": topic, "max_message_bytes": 20_000, "key": "account", **settings}
    given = KafkaSink.Config.model_validate({"bootstrap_servers": [server.address], **config})
    sink, rng = KafkaSink(given, sink_context()), Random(1)
    events = [make_event(n, body=b'{"id":"%032d"}' % n + rng.randbytes(900)) for n in range(200)]

    for first in (0, 100):
        assert not (await sink.write(batch_of(events[first : first + 100]))).rejected
    await sink.aclose()

    found = read_all(server.address, topic, **{"isolation.level": "read_committed"})
    assert [record.value() for record in found] == [event.body for event in events]
    assert set(ids_in(found).values()) == {1}
