"""What the daemon sends into each kind of destination, for the bare clients to send again."""

from __future__ import annotations

import asyncio
import gzip
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer

from bench.destinations import FRAME

EVENTS = 10_000
"""Events in a recording; bare clients go through them again and again."""

_UNITS = 10


@dataclass(frozen=True, slots=True)
class Recording:
    """Units as a bare client sends them, each with the number of events in it.

    A unit is a request's body (``hec``, ``bulk``, ``otlp``, ``sentinel``, ``lake``; not compressed;
    a Parquet file is ready as it is), a piece of a stream or file,
    or a list: of messages (``relp``), of key, value and headers (``kafka``).
    """

    units: list[tuple[float, Any]]

    @property
    def event_bytes(self) -> float:
        """Return the bytes an event, before compression."""
        return sum(_size(unit) for _, unit in self.units) / EVENTS

    def save(self, path: Path) -> None:
        """Write it for the process of a bare client."""
        path.write_bytes(pickle.dumps(self.units))

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read what ``save`` wrote."""
        return cls(pickle.loads(path.read_bytes()))


def of_pieces(kind: str, pieces: list[bytes]) -> Recording:
    """Make a recording of what a destination kept of ``EVENTS`` events, or of a whole file."""
    if kind in {"hec", "bulk", "otlp", "sentinel", "lake", "lake-parquet"}:
        ready = kind == "lake-parquet"
        bodies = pieces if ready else [gzip.decompress(piece) for piece in pieces]
        share = EVENTS / sum(map(len, bodies))
        return Recording([(len(body) * share, body) for body in bodies])
    whole = b"".join(pieces)
    if kind == "relp":
        return _in_units(_messages(whole))
    size = -(-len(whole) // _UNITS)
    cuts = [whole[place : place + size] for place in range(0, len(whole), size)]
    return Recording([(EVENTS * len(cut) / len(whole), cut) for cut in cuts])


async def of_topics(port: int, topics: tuple[str, ...]) -> Recording:
    """Make a recording of what a broker has: ``EVENTS`` records."""
    consumer = AIOKafkaConsumer(
        *topics, bootstrap_servers=f"127.0.0.1:{port}", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            records = [await anext(consumer) for _ in range(EVENTS)]
    finally:
        await consumer.stop()
    return _in_units([(record.key, record.value, list(record.headers)) for record in records])


def _messages(stream: bytes) -> list[bytes]:
    found, place = [], 0
    while head := FRAME.match(stream, place):
        end = head.end() + int(head[3])
        if head[2] == b"syslog":
            found.append(stream[head.end() : end])
        place = end + 1
    return found


def _in_units(events: list[Any]) -> Recording:
    size = -(-len(events) // _UNITS)
    cuts = [events[place : place + size] for place in range(0, len(events), size)]
    return Recording([(EVENTS * len(cut) / len(events), cut) for cut in cuts])


def _size(unit: Any) -> int:
    if isinstance(unit, bytes):
        return len(unit)
    return sum(len(event if isinstance(event, bytes) else event[1]) for event in unit)
