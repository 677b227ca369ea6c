"""What goes to which partition, and what to do with a part that a broker refused. Pure.

A part is the content of one record batch. A broker takes it whole or not at all and does not say
which record was at fault, so a refused part is changed or halved until that record is alone.
"""

from __future__ import annotations

import re
import ssl
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import accumulate
from math import inf
from operator import itemgetter
from typing import Literal, TypeAlias

from aiokafka import errors as kafka
from aiokafka.partitioner import murmur2

from forwarder.core.contracts import BatchEvent, Rejection
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.timing import format_us
from forwarder.transport.tls import explain_tls

Headers: TypeAlias = list[tuple[str, bytes]]
Key: TypeAlias = Literal["user", "event_id", "account", "none"]
_ID, _STREAM, _ACCOUNT, _USER, _BODY = (
    itemgetter(BatchEvent._fields.index(name))
    for name in ("id", "stream", "account", "user", "body")
)
_KEYS: Mapping[Key, Callable[[BatchEvent], str]] = {
    "user": _USER,
    "event_id": _ID,
    "account": _ACCOUNT,
    "none": lambda _: "",
}
"""The text that the key of a record is made of; an empty text makes no key."""

_NOT_IN_A_TOPIC = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_TOPIC = 249
_KEYS_REMEMBERED = 20_000
# Upper bound for the bytes of a record beside its body: headers, key, lengths.
_OVERHEAD = 512
# Lower bound for the compression of events, so that a part fits when it travels; most shrink to a
# sixth or less.
_SHRINKS = 3


class Stamp(Enum):
    """Which time the records of a part carry."""

    EVENT = "the event's"
    FUTURE_AS_NOW = "now for events that lie ahead, the event's for the others"
    NOW = "now"


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Events for one record batch, in order; ``size`` is an upper bound in bytes.

    Never changed: a refused part is replaced by others.
    """

    topic: str
    partition: int
    events: list[BatchEvent] = field(default_factory=list, repr=False)
    keys: list[bytes | None] = field(default_factory=list, repr=False)
    size: int = 0
    stamp: Stamp = Stamp.EVENT
    tries: int = 0

    def halves(self) -> list[Part]:
        """Return two parts with half of the events each."""
        middle, size = len(self.events) // 2, self.size // 2 + 1
        return [self.part(0, middle, size), self.part(middle, len(self.events), size)]

    def part(self, begin: int, end: int, size: int) -> Part:
        """Return a part with some of the events, of at most ``size`` bytes."""
        return replace(self, events=self.events[begin:end], keys=self.keys[begin:end], size=size)

    def restamped(self, now_us: int) -> Part | None:
        """Return the part with the next kind of time, or None if there is none left."""
        if self.stamp is Stamp.EVENT and any(event.time_us > now_us for event in self.events):
            return replace(self, stamp=Stamp.FUTURE_AS_NOW)
        return replace(self, stamp=Stamp.NOW) if self.stamp is not Stamp.NOW else None

    def again(self) -> Part:
        """Return the part for another try, unchanged."""
        return replace(self, tries=self.tries + 1)


class Layout:
    """Chooses topic, key and partition of each event."""

    def __init__(self, topic: str, key: Key, max_bytes: int, *, compressed: bool = False) -> None:
        """Take the template of the topic, the kind of key and the limit of a record batch in bytes.

        The limit is for the batch as it travels: when it is ``compressed``, several times as much
        fits in.
        """
        self._template = topic
        self._key_of = _KEYS[key]
        self._once = key == "event_id"
        self._most = max_bytes
        self.part_bytes = _SHRINKS * max_bytes if compressed else max_bytes
        self._topics: dict[tuple[str, str], str] = {}
        self._known: dict[str, tuple[bytes | None, int]] = {}
        self._turn = 0

    def topics(self, events: Sequence[BatchEvent]) -> set[str]:
        """Return the topics of ``events``; a character that Kafka forbids becomes ``_``."""
        origins = set(zip(map(_STREAM, events), map(_ACCOUNT, events), strict=True))
        return {self._topic(*origin) for origin in origins}

    def _topic(self, stream: str, account: str) -> str:
        found = self._topics.get((stream, account))
        if found is None:
            name = self._template.format(stream=stream, account=account)
            found = _NOT_IN_A_TOPIC.sub("_", name)[:_LONGEST_TOPIC]
            self._topics[stream, account] = found
        return found

    def trust_no_compression(self) -> None:
        """Keep parts within the limit before compression from now on: a broker refused one."""
        self.part_bytes = self._most

    def too_large(self, events: Sequence[BatchEvent]) -> list[Rejection]:
        """Return a rejection for each event that fits into no record batch."""
        most = self._most - _OVERHEAD
        if max(map(len, map(_BODY, events)), default=0) <= most:
            return []
        return [
            Rejection(event.offset, f"{len(event.body)} bytes are over max_message_bytes")
            for event in events
            if len(event.body) > most
        ]

    def chains(self, events: Sequence[BatchEvent], counts: Mapping[str, int]) -> list[list[Part]]:
        """Return the parts of each partition, in order and each within the limit.

        ``counts`` has the number of partitions of each topic. Records with one key go to one
        partition, by the hash that Kafka's own clients use. Records without a key go to one
        partition in each call, in turn, which makes large record batches.
        """
        self._turn += 1
        known, key_of = self._known, self._key_of
        found: dict[tuple[str, int], tuple[list[BatchEvent], list[bytes | None]]] = {}
        last, topic, count = None, "", 1
        for event in events:
            _, _, stream, account, _, _, _, _, _ = event
            if last != (stream, account):
                last, topic = (stream, account), self._topic(stream, account)
                count = counts[topic]
            text = key_of(event)
            key, number = known.get(text) or self._remember(text)
            place = (topic, (self._turn if key is None else number) % count)
            part = found.get(place)
            if part is None:
                part = found[place] = ([], [])
            part[0].append(event)
            part[1].append(key)
        return [self._cut(Part(*place, *part)) for place, part in found.items()]

    def _remember(self, text: str) -> tuple[bytes | None, int]:
        """Return the key that ``text`` makes, and its hash."""
        key = text.encode()
        made = (key, murmur2(key) & 0x7FFFFFFF) if key else (None, 0)
        if not self._once:  # an event id never repeats, so remembering it would only cost
            if len(self._known) >= _KEYS_REMEMBERED:
                self._known.clear()
            self._known[text] = made
        return made

    def _cut(self, whole: Part) -> list[Part]:
        """Return the parts that all events of one partition make, each within the limit."""
        sizes = (len(body) + _OVERHEAD for body in map(_BODY, whole.events))
        totals = list(accumulate(sizes, initial=0))
        if totals[-1] <= self.part_bytes:
            return [replace(whole, size=totals[-1])]
        parts, begin = [], 0
        while begin < len(whole.events):
            fitting = bisect_right(totals, totals[begin] + self.part_bytes) - 1
            end = max(begin + 1, fitting)
            parts.append(whole.part(begin, end, totals[end] - totals[begin]))
            begin = end
        return parts


class Records:
    """Makes the records of a part: timestamp, key, value, headers."""

    def __init__(self, schema: str, media_type: str) -> None:
        """Take the name of the format and what it produces."""
        self._fixed: Headers = [
            ("schema", schema.encode()),
            ("content-type", media_type.encode()),
        ]
        self._headers: dict[tuple[str, str], Headers] = {}

    def of(self, part: Part, now_us: int) -> Iterator[tuple[int, bytes | None, bytes, Headers]]:
        """Yield time in milliseconds, key, value and headers of each record.

        Where the timestamp is not the event's own time, the header ``event_time`` holds that.
        """
        earliest, latest = _own_times(part.stamp, now_us)
        last, shared = None, Headers()
        for event, key in zip(part.events, part.keys, strict=True):
            _, event_id, stream, account, time_us, _, _, _, body = event
            if last != (stream, account):
                last, shared = (stream, account), self._shared(stream, account)
            headers = [("event_id", event_id.encode()), *shared]
            if earliest <= time_us <= latest:
                yield time_us // 1000, key, body, headers
            else:
                headers.append(("event_time", format_us(time_us).encode()))
                yield now_us // 1000, key, body, headers

    def _shared(self, stream: str, account: str) -> Headers:
        found = self._headers.get((stream, account))
        if found is None:
            found = self._headers[stream, account] = [
                ("stream", stream.encode()),
                ("account", account.encode()),
                *self._fixed,
            ]
        return found


def _own_times(stamp: Stamp, now_us: int) -> tuple[int, float]:
    """Return the bounds within which an event keeps its own time."""
    # No broker takes a time before 1970.
    if stamp is Stamp.NOW:
        return 0, -1
    return 0, now_us if stamp is Stamp.FUTURE_AS_NOW else inf


_ALLOW_TOPIC = "allow this principal Write and Describe on the topic (kafka-acls.sh)"
_LOG_IN = "check sasl.mechanism, sasl.username and the password, and that the listener wants SASL"
_OPERATOR: dict[type[Exception], tuple[str, str]] = {
    kafka.UnknownTopicOrPartitionError: (
        "the topic does not exist",
        "create it, or let the brokers create topics (auto.create.topics.enable)",
    ),
    kafka.InvalidTopicError: ("the topic's name is not allowed", "change the setting topic"),
    kafka.TopicAuthorizationFailedError: ("no permission for the topic", _ALLOW_TOPIC),
    kafka.ClusterAuthorizationFailedError: (
        "no permission for an idempotent producer",
        "allow IdempotentWrite on the cluster, or set idempotent: false",
    ),
    kafka.TransactionalIdAuthorizationFailed: (
        "no permission for transactional_id",
        "allow Write and Describe on the transactional id",
    ),
    kafka.ProducerFenced: (
        "another producer uses our transactional_id",
        "give each sink of each forwarder a transactional_id of its own",
    ),
    kafka.SaslAuthenticationFailed: ("the brokers do not accept our log-in", _LOG_IN),
    kafka.AuthenticationFailedError: ("the brokers do not accept our log-in", _LOG_IN),
    kafka.IllegalSaslStateError: ("the brokers do not accept our log-in", _LOG_IN),
    kafka.UnsupportedSaslMechanismError: (
        "the brokers do not offer this SASL mechanism",
        "set sasl.mechanism to one that the listener offers",
    ),
    kafka.InvalidProducerEpoch: (
        "another producer uses our transactional_id",
        "give each sink of each forwarder a transactional_id of its own",
    ),
}
TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)
_REFUSED = (kafka.PolicyViolationError, kafka.UnsupportedForMessageFormatError)
_SEQUENCE_BROKEN = (kafka.OutOfOrderSequenceNumber, kafka.UnknownProducerId)
# The refused parts of another write can break our sequence once for each time they are halved.
_MOST_TRIES = 20
_AWAY = "check that the brokers run, bootstrap_servers, and what a firewall lets through"
_UNKNOWN_CODE = "the brokers' log says why; a compacted topic takes no record without a key"


def judge(part: Part, error: Exception, now_us: int) -> list[Part] | Rejection | TransientError:
    """Decide about a part that a broker refused, so that certainly none of it is stored.

    Returns the parts to send in its place on a new producer, the rejection of its only event, or
    the error to raise.
    """
    if isinstance(error, kafka.InvalidTimestampError):
        restamped = part.restamped(now_us)
        if restamped is not None:
            return [restamped]
    if isinstance(error, TOO_LARGE + _REFUSED):
        if len(part.events) > 1:
            return part.halves()
        event = part.events[0]
        return Rejection(event.offset, _refusal(error, len(event.body)))
    # A hole that another refused batch has left: a new producer begins a new sequence.
    if isinstance(error, _SEQUENCE_BROKEN) and part.tries < _MOST_TRIES:
        return [part.again()]
    return explain(error, part.topic)


def _refusal(error: Exception, size: int) -> str:
    if isinstance(error, TOO_LARGE):
        return f"{size} bytes are more than the topic takes (max.message.bytes)"
    return f"the broker refuses the record: {type(error).__name__}"


def explain(error: BaseException, topic: str | None = None) -> TransientError:
    """Return ``error`` translated, with a hint where a person must act."""
    where = f" ({topic})" if topic else ""
    if isinstance(error, TransientError):
        return error
    for kind, (problem, hint) in _OPERATOR.items():
        if isinstance(error, kind):
            return NeedsOperatorError(f"Kafka: {problem}{where}", hint=hint)
    if isinstance(error, ssl.SSLError):
        return explain_tls(error, f"the Kafka broker{where}")
    return TransientError(f"Kafka: {_name(error)}{where}", hint=_hint(error))


def _hint(error: BaseException) -> str:
    if isinstance(error, kafka.UnknownError):
        return _UNKNOWN_CODE
    return _AWAY if isinstance(error, OSError | kafka.KafkaConnectionError) else ""


def _name(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, kafka.ProducerClosed):
        return "given up with another batch that was not confirmed"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return type(error).__name__
