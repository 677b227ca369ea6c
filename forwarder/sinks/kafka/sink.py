"""Kafka by aiokafka: acknowledged by all in-sync replicas, idempotent by default.

One write makes one record batch for each partition that it touches. aiokafka repeats a batch while
a leader moves, until ``request_timeout``, which an idempotent producer can do without duplicates;
every longer retry belongs to the engine.

A record that a broker refuses for its timestamp is sent again within the same write, with the
current time and the original time in the header ``event_time``: that is another record, no retry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from aiokafka import errors as kafka

from forwarder.core.contracts import (
    ACCEPTED,
    Batch,
    BatchEvent,
    BatchLimits,
    Finding,
    Rejection,
    SinkContext,
    WriteResult,
)
from forwarder.core.errors import BatchTooLargeError, NeedsOperatorError, TransientError
from forwarder.sinks.kafka.config import KafkaConfig
from forwarder.sinks.kafka.producers import Producers
from forwarder.sinks.kafka.records import TOO_LARGE, Layout, Part, Records, explain, judge

_CLOSING = 3.0


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How many parts of one partition were taken, and why the next one was not."""

    chain: list[Part]
    taken: int
    error: Exception | None = None


class _Delivery:
    """What became of the events of one write, by offset."""

    def __init__(self, events: Sequence[BatchEvent], rejected: list[Rejection]) -> None:
        """Begin with what is ``rejected`` before anything is sent."""
        gone = {one.offset for one in rejected}
        self.events = [event for event in events if event.offset not in gone] if gone else events
        self.rejected = rejected
        self._taken: set[int] = set()

    def took(self, part: Part) -> None:
        """Note that the in-sync replicas have these records, for good."""
        self._taken.update(event.offset for event in part.events)

    def broken_off(self, error: TransientError) -> WriteResult:
        """Return the result of a write that ended with ``error``; raises it if nothing was taken.

        A partition without a leader must not let the events of the others be sent again and again.
        """
        if not self._taken:
            raise error
        settled = self._taken | {one.offset for one in self.rejected}
        left = frozenset(event.offset for event in self.events) - settled
        return WriteResult(self.rejected, left, notes=[f"kafka_deferred: {error}"])


class KafkaSink:
    """Writes each batch to the partitions that its keys choose."""

    Config: ClassVar[type[KafkaConfig]] = KafkaConfig
    default_format: ClassVar[str] = "ocsf"
    summary: ClassVar[str] = "Kafka topics (acks=all, idempotent, SASL, TLS, transactions)"

    def __init__(self, config: KafkaConfig, context: SinkContext) -> None:
        """Prepare; no I/O."""
        if config.transactional_id and context.shard is not None:
            # Two producers with one id fence each other for ever.
            own = f"{config.transactional_id}-{context.shard}"
            config = config.model_copy(update={"transactional_id": own})
        self._config = config
        self._clock = context.clock
        self._layout = Layout(
            config.topic,
            config.key,
            config.max_message_bytes,
            compressed=config.compression != "none",
        )
        self._records = Records(context.format, context.media_type)
        self._producers = Producers(config, context, self._layout.part_bytes)
        self._transaction = asyncio.Lock()

    @property
    def limits(self) -> BatchLimits:
        """Return large batches, since each is spread over partitions."""
        # A producer has one transaction at a time.
        in_flight = 1 if self._config.transactional_id else 3
        return BatchLimits(max_events=2000, max_bytes=4_000_000, max_in_flight=in_flight)

    async def open(self) -> None:
        """Connect, log in, get a producer id; with a transactional id this fences an older one."""
        await self._producers.get()

    async def write(self, batch: Batch) -> WriteResult:
        """Return when all in-sync replicas have every record."""
        delivery = _Delivery(batch.events, self._layout.too_large(batch.events))
        try:
            async with asyncio.timeout(self._config.request_timeout):
                await self._deliver(delivery)
        except TimeoutError:
            error = TransientError("Kafka: the brokers did not confirm in time")
            return delivery.broken_off(error)
        except (TransientError, kafka.KafkaError, kafka.IllegalOperation) as error:
            return delivery.broken_off(explain(error))
        return WriteResult(rejected=delivery.rejected) if delivery.rejected else ACCEPTED

    async def _deliver(self, delivery: _Delivery) -> None:
        """Send parts, and the parts that replace refused ones, until none is left."""
        producer = await self._producers.get()
        topics = self._layout.topics(delivery.events)
        counts = {topic: await self._partitions(producer, topic) for topic in topics}
        chains = self._layout.chains(delivery.events, counts)
        while chains:
            producer = await self._producers.get()
            outcomes = await self._send(producer, chains, delivery)
            if broken := any(outcome.error for outcome in outcomes):
                # A refused batch leaves a hole in the sequence numbers of an idempotent producer.
                self._producers.retire(producer)
            undone = broken and self._config.transactional_id is not None
            rests = [self._rest(one, delivery.rejected, undone=undone) for one in outcomes]
            chains = [rest for rest in rests if rest]

    async def _partitions(self, producer: Any, topic: str) -> int:
        try:
            return await self._producers.partitions(producer, topic)
        except NeedsOperatorError:
            raise
        except (TransientError, TimeoutError):
            # No broker answers it any more; the next write begins with a new producer.
            self._producers.discard(producer)
            raise

    def _rest(self, outcome: _Outcome, rejected: list[Rejection], *, undone: bool) -> list[Part]:
        """Return the parts that a chain still has to send, or raise the error for the engine.

        ``undone``: the transaction was aborted, and with it the parts that were taken.
        """
        rest = outcome.chain[: outcome.taken] if undone else []
        if outcome.error is None:
            return rest
        part, later = outcome.chain[outcome.taken], outcome.chain[outcome.taken + 1 :]
        if isinstance(outcome.error, TOO_LARGE):
            self._layout.trust_no_compression()
        verdict = judge(part, outcome.error, self._clock.now_us())
        if isinstance(verdict, TransientError):
            raise verdict from outcome.error
        if isinstance(verdict, Rejection):
            rejected.append(verdict)
            return rest + later
        return rest + verdict + later

    async def _send(
        self, producer: Any, chains: list[list[Part]], delivery: _Delivery
    ) -> list[_Outcome]:
        """Send ``chains``, those of different partitions at once."""
        try:
            with self._producers.using(producer):
                if self._config.transactional_id:
                    async with self._transaction:
                        return await self._transact(producer, chains)
                return await self._send_all(producer, chains, delivery.took)
        except BaseException:
            # Also when cancelled: aiokafka would retry its batches with nobody in control.
            self._producers.discard(producer)
            raise

    async def _transact(self, producer: Any, chains: list[list[Part]]) -> list[_Outcome]:
        """Send in one transaction; a failed one is aborted when the next producer starts."""
        await producer.begin_transaction()
        outcomes = await self._send_all(producer, chains, lambda _: None)
        if not any(outcome.error for outcome in outcomes):
            await producer.commit_transaction()
        return outcomes

    async def _send_all(
        self, producer: Any, chains: list[list[Part]], took: Callable[[Part], None]
    ) -> list[_Outcome]:
        return await asyncio.gather(*(self._send_chain(producer, one, took) for one in chains))

    async def _send_chain(
        self, producer: Any, chain: list[Part], took: Callable[[Part], None]
    ) -> _Outcome:
        """Send the parts of one partition in order, up to the first that is refused."""
        for taken, part in enumerate(chain):
            try:
                batch = self._record_batch(producer, part)
                sent = await producer.send_batch(batch, part.topic, partition=part.partition)
                sent.add_done_callback(_retrieve)
                # Not ``await sent``: a cancelled write would cancel aiokafka's own future.
                await asyncio.wait([sent])
                sent.result()
                took(part)
            except kafka.KafkaError as error:
                return _Outcome(chain, taken, cast("Exception", error))
        return _Outcome(chain, len(chain))

    def _record_batch(self, producer: Any, part: Part) -> Any:
        builder = producer.create_batch()
        for time_ms, key, value, headers in self._records.of(part, self._clock.now_us()):
            if not builder.append(timestamp=time_ms, key=key, value=value, headers=headers):
                raise BatchTooLargeError("a record batch takes less than was computed")
        builder.close()
        return builder

    async def aclose(self) -> None:
        """End the producer within seconds."""
        await self._producers.aclose(_CLOSING)

    async def diagnose(self) -> Sequence[Finding]:
        """Log in and look for the topic among all: asking for it by name could create it."""
        findings = [*_weaknesses(self._config)]
        try:
            async with asyncio.timeout(self._config.request_timeout):
                producer = await self._producers.get()
                known = (await producer.client.fetch_all_metadata()).topics()
        except (TransientError, TimeoutError, kafka.KafkaError) as error:
            fault = explain(error)
            return [*findings, Finding("fault", "brokers", str(fault), fault.hint)]
        findings.append(Finding("ok", "brokers", "connected and logged in"))
        topic = self._config.topic
        if "{" not in topic and topic not in known:
            hint = "create it, or let the brokers create it"
            findings.append(Finding("warning", "topic", f"{topic} is not there yet", hint))
        return findings


def _retrieve(sent: asyncio.Future[Any]) -> None:
    """Retrieve the exception of a future that nobody awaits any more; asyncio would log it."""
    if not sent.cancelled():
        sent.exception()


def _weaknesses(config: KafkaConfig) -> list[Finding]:
    findings = []
    if config.tls is None:
        findings.append(Finding("warning", "tls", "events travel unprotected", "set tls: {}"))
        if config.sasl is not None and config.sasl.mechanism in ("PLAIN", "OAUTHBEARER"):
            text = "the password travels unprotected"
            findings.append(Finding("warning", "sasl", text, "set tls: {}"))
    if not config.idempotent:
        text = "brokers may keep a record twice"
        findings.append(Finding("warning", "idempotent", text, "set idempotent: true"))
    return findings
