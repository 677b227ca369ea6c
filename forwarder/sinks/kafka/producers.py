"""One working producer at a time, and an end for every one that no longer works.

aiokafka's idempotent producer tries for ever while brokers are away, so every wait has a time-out
here, and a producer that ran into one is taken apart and made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka
from aiokafka.conn import create_conn

from forwarder.core.clock import Clock
from forwarder.core.errors import TransientError
from forwarder.sinks.kafka.config import KafkaConfig
from forwarder.sinks.kafka.ending import TAKE_APART, stop, take_apart
from forwarder.sinks.kafka.faults import explain
from forwarder.sinks.kafka.oauth import ClientCredentials
from forwarder.transport.tls import Tls

_TOPIC_APPEARS = 5.0
_LOOK_AGAIN = 0.1


class Producers:
    """Makes producers and ends them."""

    def __init__(self, config: KafkaConfig, clock: Clock, batch_bytes: int) -> None:
        """Connect to nothing yet; ``batch_bytes`` bounds a record batch before it shrinks."""
        self._config = config
        self._batch_bytes = batch_bytes
        self._tls = Tls(config.tls) if config.tls is not None else None
        oauth = config.sasl is not None and config.sasl.mechanism == "OAUTHBEARER"
        self._tokens = ClientCredentials(config.sasl, clock) if config.sasl and oauth else None
        self._current: Any = None
        self._starting = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()
        self._users: Counter[Any] = Counter()

    async def get(self) -> Any:
        """Return the working producer, after starting one if there is none.

        Raises ``TransientError`` when no broker can be reached within ``request_timeout``,
        ``NeedsOperatorError`` when they will not have us.
        """
        async with self._starting:
            if self._current is None:
                self._current = await self._start()
            return self._current

    async def _start(self) -> Any:
        connection = await self._connection()
        config = self._config
        producer = AIOKafkaProducer(
            **connection,
            acks="all",
            enable_idempotence=config.idempotent,
            transactional_id=config.transactional_id,
            compression_type=None if config.compression == "none" else config.compression,
            max_batch_size=self._batch_bytes,
        )
        try:
            async with asyncio.timeout(config.request_timeout):
                await producer.start()
        except (kafka.KafkaError, OSError) as error:
            self._in_background(take_apart(producer, error))
            raise await self._why(error, connection) from error
        except BaseException as error:
            self._in_background(take_apart(producer, error))
            raise
        return producer

    async def _connection(self) -> dict[str, Any]:
        """Return how to reach a broker; reads secrets, certificates and token anew."""
        config, sasl = self._config, self._config.sasl
        given: dict[str, Any] = {
            "bootstrap_servers": list(config.bootstrap_servers),
            "client_id": config.client_id,
            "request_timeout_ms": max(1, int(config.request_timeout * 1000)),
            "security_protocol": config.security_protocol,
            "ssl_context": self._tls.context() if self._tls else None,
        }
        if self._tokens is not None:
            await self._tokens.token()
            given |= {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": self._tokens}
        elif sasl is not None:
            given |= {
                "sasl_mechanism": sasl.mechanism,
                "sasl_plain_username": sasl.username,
                "sasl_plain_password": sasl.password.reveal() if sasl.password else None,
            }
        return given

    async def _why(self, error: Exception, connection: dict[str, Any]) -> TransientError:
        """Ask one broker directly: aiokafka says only that none of them could be used."""
        if not isinstance(error, kafka.KafkaConnectionError):
            return explain(error)
        arguments = dict(connection)
        address = str(arguments.pop("bootstrap_servers")[0])
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(_TOPIC_APPEARS):
                probe = await create_conn(host.strip("[]") or address, int(port), **arguments)
        except (kafka.KafkaError, OSError, ValueError) as found:
            return explain(found, address)
        probe.close()
        return explain(error, address)

    async def partitions(self, producer: Any, topic: str) -> int:
        """Return how many partitions ``topic`` has.

        Raises ``NeedsOperatorError`` when the brokers answer but do not have it.
        """
        cluster = producer.client.cluster
        found = cluster.partitions_for_topic(topic)
        if found:
            return len(found)
        async with asyncio.timeout(self._config.request_timeout):
            await self._look_for(producer, topic)
        return len(cluster.partitions_for_topic(topic))

    async def _look_for(self, producer: Any, topic: str) -> None:
        """Ask until the topic is there; a broker that creates topics takes a moment to do so."""
        loop, cluster = asyncio.get_running_loop(), producer.client.cluster
        until = loop.time() + min(_TOPIC_APPEARS, self._config.request_timeout / 2)
        await producer.client.add_topic(topic)
        while not cluster.partitions_for_topic(topic):
            answered = await producer.client.force_metadata_update()
            if cluster.partitions_for_topic(topic):
                return
            if topic in cluster.unauthorized_topics:
                raise explain(kafka.TopicAuthorizationFailedError(), topic)
            if loop.time() > until:
                if answered:
                    raise explain(kafka.UnknownTopicOrPartitionError(), topic)
                raise TransientError("Kafka: no broker answers")
            await asyncio.sleep(_LOOK_AGAIN)

    @contextlib.contextmanager
    def using(self, producer: Any) -> Iterator[None]:
        """Keep ``producer`` from being stopped while something is sent with it.

        aiokafka's ``stop`` would leave behind, unsent, what is handed over during it.
        """
        self._users[producer] += 1
        try:
            yield
        finally:
            self._users[producer] -= 1
            self._stop_if_done(producer)

    def discard(self, producer: Any) -> None:
        """End ``producer`` now: what it has not delivered fails."""
        self._forget(producer)
        self._in_background(take_apart(producer))

    def retire(self, producer: Any) -> None:
        """Use ``producer`` for nothing new, and end it when it has delivered what it has."""
        self._forget(producer)
        self._stop_if_done(producer)

    def _stop_if_done(self, producer: Any) -> None:
        if not self._users[producer]:
            del self._users[producer]
            if producer is not self._current:
                self._in_background(stop(producer, self._config.request_timeout))

    def _forget(self, producer: Any) -> None:
        if self._current is producer:
            self._current = None

    def _in_background(self, ending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(ending, name="kafka: end a producer")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def aclose(self, grace: float) -> None:
        """End everything; what is still on its way has ``grace`` seconds."""
        producer, self._current = self._current, None
        if producer is not None:
            self._in_background(stop(producer, grace))
        if self._ending:
            await asyncio.wait(self._ending, timeout=grace + 2 * TAKE_APART)
