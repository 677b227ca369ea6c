"""What goes to which partition, and what to do with a part that a broker refused. Pure.

A part is what one record batch will hold. A broker takes it whole or not at all and does not say
which record it minded, so a refused part is changed or halved until the guilty record is alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal, TypeAlias

from aiokafka.partitioner import murmur2

from forwarder.core.model import BatchEvent, Rejection
from forwarder.core.timestamps import format_us

Headers: TypeAlias = list[tuple[str, bytes]]
Key: TypeAlias = Literal["user", "event_id", "account", "none"]
_NOT_IN_A_TOPIC = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_TOPIC = 249
_KEYS_REMEMBERED = 20_000
_OVERHEAD = 512
"""Bytes of a record beside its body, never fewer: headers, key, lengths."""
_SHRINKS = 3
"""Times that events shrink when they are compressed, at least: most do more than six times."""


class Stamp(Enum):
    """Which time the records of a part carry."""

    EVENT = "the event's"
    FUTURE_AS_NOW = "now for events that lie ahead, the event's for the others"
    NOW = "now"


@dataclass(slots=True, eq=False)
class Part:
    """Events for one record batch, in order; ``size`` is an upper bound in bytes."""

    topic: str
    partition: int
    events: list[BatchEvent] = field(default_factory=list, repr=False)
    keys: list[bytes | None] = field(default_factory=list, repr=False)
    size: int = 0
    stamp: Stamp = Stamp.EVENT
    tries: int = 0

    def halves(self) -> list[Part]:
        """Return two parts with half of the events each."""
        middle = len(self.events) // 2
        return [
            replace(self, events=self.events[cut], keys=self.keys[cut], size=self.size // 2 + 1)
            for cut in (slice(None, middle), slice(middle, None))
        ]

    def restamped(self, now_us: int) -> Part | None:
        """Return the part with the next kind of time, or None if there is none left."""
        if self.stamp is Stamp.EVENT and any(event.time_us > now_us for event in self.events):
            return replace(self, stamp=Stamp.FUTURE_AS_NOW)
        return replace(self, stamp=Stamp.NOW) if self.stamp is not Stamp.NOW else None

    def again(self) -> Part:
        """Return the part for another try, unchanged."""
        return replace(self, tries=self.tries + 1)


class Layout:
    """Chooses topic, key and partition; remembers what repeats."""

    def __init__(self, topic: str, key: Key, max_bytes: int, *, compressed: bool = False) -> None:
        """Take the topic's template, the kind of key and the limit of a record batch in bytes.

        The limit is of what travels: several times as much fits in when it is ``compressed``.
        """
        self._template = topic
        self._key = key
        self._most = max_bytes
        self.part_bytes = _SHRINKS * max_bytes if compressed else max_bytes
        self._topics: dict[tuple[str, str], str] = {}
        self._hashes: dict[bytes, int] = {}
        self._turn = 0

    def topic(self, event: BatchEvent) -> str:
        """Return the topic; what Kafka does not allow in a name becomes ``_``."""
        found = self._topics.get((event.stream, event.account))
        if found is None:
            name = self._template.format(stream=event.stream, account=event.account)
            found = _NOT_IN_A_TOPIC.sub("_", name)[:_LONGEST_TOPIC]
            self._topics[event.stream, event.account] = found
        return found

    def trust_no_compression(self) -> None:
        """Keep parts within the limit from now on, however small they become on their way."""
        self.part_bytes = self._most

    def too_large(self, events: Sequence[BatchEvent]) -> list[Rejection]:
        """Return a rejection for each event that fits into no record batch."""
        most = self._most - _OVERHEAD
        return [
            Rejection(event.offset, f"{len(event.body)} bytes are over max_message_bytes")
            for event in events
            if len(event.body) > most
        ]

    def chains(self, events: Sequence[BatchEvent], counts: dict[str, int]) -> list[list[Part]]:
        """Return the parts of each partition, in order and each within the limit.

        ``counts`` has the number of partitions of each topic. Records with one key go to one
        partition, by the hash that Kafka's own clients use. Those without a key go to one
        partition a call, in turn, which makes large record batches.
        """
        self._turn += 1
        most = self.part_bytes
        chains: dict[tuple[str, int], list[Part]] = {}
        for event in events:
            topic, key = self.topic(event), self._key_of(event)
            partition = (self._turn if key is None else self._hash(key)) % counts[topic]
            chain = chains.get((topic, partition))
            if chain is None:
                chain = chains[topic, partition] = [Part(topic, partition)]
            size = len(event.body) + _OVERHEAD
            if chain[-1].size + size > most and chain[-1].events:
                chain.append(Part(topic, partition))
            part = chain[-1]
            part.events.append(event)
            part.keys.append(key)
            part.size += size
        return list(chains.values())

    def _key_of(self, event: BatchEvent) -> bytes | None:
        if self._key == "user":
            return event.user.encode() or None
        if self._key == "event_id":
            return event.id.encode()
        return event.account.encode() if self._key == "account" else None

    def _hash(self, key: bytes) -> int:
        found = self._hashes.get(key)
        if found is None:
            if len(self._hashes) >= _KEYS_REMEMBERED:
                self._hashes.clear()
            found = murmur2(key) & 0x7FFFFFFF
            if self._key != "event_id":  # each of those comes once
                self._hashes[key] = found
        return found


class Records:
    """Gives each event its timestamp and headers."""

    def __init__(self, schema: str, media_type: str) -> None:
        """Take the name of the format and what it produces."""
        self._fixed: Headers = [
            ("schema", schema.encode()),
            ("content-type", media_type.encode()),
        ]
        self._headers: dict[tuple[str, str], Headers] = {}

    def of(self, part: Part, now_us: int) -> Iterator[tuple[int, bytes | None, bytes, Headers]]:
        """Yield time in milliseconds, key, value and headers of each record.

        A time that is not the event's own leaves that in the header ``event_time``.
        """
        own_time = _own_time(part.stamp, now_us)
        for event, key in zip(part.events, part.keys, strict=True):
            headers = [("event_id", event.id.encode()), *self._shared(event)]
            if own_time(event.time_us):
                yield event.time_us // 1000, key, event.body, headers
            else:
                headers.append(("event_time", format_us(event.time_us).encode()))
                yield now_us // 1000, key, event.body, headers

    def _shared(self, event: BatchEvent) -> Headers:
        found = self._headers.get((event.stream, event.account))
        if found is None:
            found = self._headers[event.stream, event.account] = [
                ("stream", event.stream.encode()),
                ("account", event.account.encode()),
                *self._fixed,
            ]
        return found


def _own_time(stamp: Stamp, now_us: int) -> Callable[[int], bool]:
    """Return whether an event's time is to be used; no broker takes one before 1970."""
    if stamp is Stamp.NOW:
        return lambda _: False
    if stamp is Stamp.FUTURE_AS_NOW:
        return lambda time_us: 0 <= time_us <= now_us
    return lambda time_us: time_us >= 0
