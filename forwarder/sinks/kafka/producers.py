"""Producers of aiokafka: one that works at a time, and an end for each that no longer does.

aiokafka's idempotent producer retries for ever while brokers are away, and ends neither a send nor
its own ``stop``. So every wait has a time limit here, and a producer that exceeds it is taken apart
and replaced. That touches parts of aiokafka that are not public, which is why its version is
pinned.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka
from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import create_conn

from forwarder.core.contracts import SinkContext
from forwarder.core.errors import TransientError
from forwarder.sinks.kafka.config import KafkaConfig
from forwarder.sinks.kafka.records import explain
from forwarder.transport.oauth import TokenSource
from forwarder.transport.tls import Tls

# Seconds that each step of taking a producer apart may take.
TAKE_APART = 1.0
_TOPIC_APPEARS = 5.0
_LOOK_AGAIN = 0.1


class Producers:
    """Makes producers and ends them."""

    def __init__(self, config: KafkaConfig, context: SinkContext, batch_bytes: int) -> None:
        """Connect to nothing yet; ``batch_bytes`` bounds a record batch before compression."""
        self._config = config
        self._batch_bytes = batch_bytes
        where = f"sink {context.name}"
        self._tls = Tls(config.tls, where, context.emit) if config.tls is not None else None
        oauth = config.sasl.oauth() if config.sasl is not None else None
        self._tokens = TokenSource(oauth, context.clock) if oauth is not None else None
        self._current: Any = None
        self._starting = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()
        self._users: Counter[Any] = Counter()

    async def get(self) -> Any:
        """Return the working producer, after starting one if there is none.

        Raises ``TransientError`` when no broker can be reached within ``request_timeout``,
        ``NeedsOperatorError`` when the brokers refuse the log-in.
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
            # ``start`` itself would wait for ever for a broker that accepts and says nothing.
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
        """Return the arguments of a connection; re-reads secrets, certificates and token."""
        config, sasl = self._config, self._config.sasl
        given: dict[str, Any] = {
            "bootstrap_servers": list(config.bootstrap_servers),
            "client_id": config.client_id,
            "request_timeout_ms": max(1, int(config.request_timeout * 1000)),
            "security_protocol": config.security_protocol,
            "ssl_context": self._tls.context() if self._tls else None,
        }
        if self._tokens is not None:
            # Fetched here for its errors: inside aiokafka they would be "no broker can be used".
            await self._tokens.token()
            provider = _Tokens(self._tokens)
            given |= {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": provider}
        elif sasl is not None:
            given |= {
                "sasl_mechanism": sasl.mechanism,
                "sasl_plain_username": sasl.username,
                "sasl_plain_password": sasl.password.reveal() if sasl.password else None,
            }
        return given

    async def _why(self, error: Exception, connection: dict[str, Any]) -> TransientError:
        """Return the cause, from one broker: aiokafka says only that none could be used."""
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
        """Ask until the topic is there: a broker that creates topics takes a moment for it."""
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

        aiokafka never sends what is handed over during its ``stop``.
        """
        self._users[producer] += 1
        try:
            yield
        finally:
            self._users[producer] -= 1
            self._stop_if_done(producer)

    def discard(self, producer: Any) -> None:
        """End ``producer`` now; batches that it has not delivered fail."""
        self._forget(producer)
        self._in_background(take_apart(producer))

    def retire(self, producer: Any) -> None:
        """Use ``producer`` for nothing new, and end it when it has delivered its batches."""
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
        """End everything; batches on their way have ``grace`` seconds."""
        producer, self._current = self._current, None
        if producer is not None:
            self._in_background(stop(producer, grace))
        if self._ending:
            await asyncio.wait(self._ending, timeout=grace + 2 * TAKE_APART)


class _Tokens(AbstractTokenProvider):  # type: ignore[misc] # aiokafka ships no types
    """Gives aiokafka a token for every connection to a broker."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    async def token(self) -> str:
        return await self._source.token()


async def stop(producer: Any, grace: float) -> None:
    """Let ``producer`` deliver its batches for ``grace`` seconds, then take it apart."""
    try:
        async with asyncio.timeout(grace):
            await producer.stop()
    except (TimeoutError, kafka.KafkaError, OSError):
        await take_apart(producer)


async def take_apart(producer: Any, error: BaseException | None = None) -> None:
    """Fail its batches, cancel its tasks, close its connections; never waits for a broker.

    ``error`` is what interrupted its start, if that is why it ends.
    """
    producer._closed = True  # noqa: SLF001 - see the head of this file
    for connection in _stranded(error):
        connection.close()
    client, accumulator, sender = producer.client, producer._message_accumulator, producer._sender  # noqa: SLF001
    _fail_batches(accumulator)
    own = {id(part) for part in (client, accumulator, sender, producer)}
    tasks = [task for task in asyncio.all_tasks() if id(_owner(task)) in own]
    for task in tasks:
        task.cancel()
    with contextlib.suppress(TimeoutError, OSError, kafka.KafkaError):
        async with asyncio.timeout(TAKE_APART):
            await client.close()
    waiting = client._md_update_fut  # noqa: SLF001
    if waiting is not None:
        waiting.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=TAKE_APART)


def _stranded(error: BaseException | None) -> Iterator[Any]:
    """Yield connections that an interrupted start held in a local variable and nowhere else."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            connection = frame.f_locals.get("bootstrap_conn")
            if connection is not None:
                yield connection
        error = error.__cause__ or error.__context__


def _fail_batches(accumulator: Any) -> None:
    """Make every write that waits for this producer fail."""
    accumulator._closed = True  # noqa: SLF001
    queued = [batch for batches in accumulator._batches.values() for batch in batches]  # noqa: SLF001
    for batch in [*queued, *accumulator._pending_batches]:  # noqa: SLF001
        batch.failure(kafka.ProducerClosed())
        for future in (batch.future, batch._drain_waiter):  # noqa: SLF001
            if future.done() and not future.cancelled():
                future.exception()


def _owner(task: asyncio.Task[Any]) -> Any:
    """Return the object whose method a task runs; aiokafka keeps no list of its tasks."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    return frame.f_locals.get("self") if frame is not None else None
