"""From a batch to objects: partitions, names, and the bytes of each object.

A name says stream, account, hour and content, so a batch that is written again overwrites itself,
and no name can overwrite other events. Pure, and takes up to a second for a large batch: it runs
in a thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from itertools import groupby
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote

import cramjam

from forwarder.core.contracts import Batch, BatchEvent, Rejection, SinkContext
from forwarder.core.errors import ConfigError
from forwarder.core.timing import format_us
from forwarder.sinks.object_store.config import ObjectStoreConfig

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
# The version that Security Lake validates.
_LAKE_VERSION = "1.1.0"
# Bytes that are packed at once; with fewer, columns of Parquet need much more memory than text.
_SLICE = 2**20

Place: TypeAlias = tuple[str, str, int]
"""Stream, account and begin of the hour of events that share an object.

For Security Lake only the begin of the day.
"""


@dataclass(frozen=True, slots=True)
class LakeObject:
    """An object to write: its name below the prefix, its media type and its bytes."""

    name: str
    media_type: str
    # A repr may end in a log, where no row may be.
    body: bytes = field(repr=False)


class Packer(Protocol):
    """Turns lines into the bytes of an object; cramjam's compressors are such packers."""

    def compress(self, data: bytes, /) -> int:
        """Take more lines, whole ones."""
        ...

    def finish(self) -> Any:
        """Return all bytes of the object, as anything that ``bytes`` takes."""
        ...


class _Plain:
    """Lines as they are."""

    def __init__(self) -> None:
        self.lines = BytesIO()

    def compress(self, data: bytes, /) -> int:
        return self.lines.write(data)

    def finish(self) -> bytes:
        return self.lines.getvalue()


_PACKERS: dict[str, tuple[str, Callable[[], Packer]]] = {
    "none": ("", _Plain),
    "gzip": (".gz", lambda: cramjam.gzip.Compressor(level=4)),
    "zstd": (".zst", lambda: cramjam.zstd.Compressor(level=3)),
}


class _Pile:
    """The lines of one object, and what its name says of them."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer
        self._digest = hashlib.sha256()
        self._waiting = bytearray()
        self._first = self._last = 0

    def add(self, event: BatchEvent, line: bytes) -> None:
        """Take the next event in the order of time."""
        # Of the ids too: a format may leave them out, and then different events look alike.
        self._digest.update(event.id.encode() + line)
        self._first, self._last = self._first or event.time_us, event.time_us
        self._waiting += line + b"\n"
        if len(self._waiting) >= _SLICE:
            self._flush()

    def _flush(self) -> None:
        self._packer.compress(bytes(self._waiting))
        self._waiting.clear()

    def finish(self) -> tuple[str, bytes]:
        """Return the object's own part of its name, and its bytes."""
        self._flush()
        name = f"{_stamp(self._first)}-{_stamp(self._last)}-{self._digest.hexdigest()[:20]}"
        return name, bytes(self._packer.finish())


class Objects:
    """Makes the objects of batches as the settings want them."""

    def __init__(self, config: ObjectStoreConfig, context: SinkContext) -> None:
        """Raise ``ConfigError`` for what the settings and the format cannot do together."""
        self._layout = config.layout
        self._lake = config.security_lake
        self._line: Callable[[BatchEvent], tuple[int, bytes]] = _body
        self._media_type = "application/x-ndjson"
        if "json" not in context.media_type:
            self._media_type = "text/plain; charset=utf-8"
        ending, packer = _PACKERS[config.compression]
        self._suffix = (".json" if "json" in context.media_type else ".log") + ending
        self._packer: Callable[[int], Packer] = lambda _: packer()
        if config.file_format == "parquet":
            self._use_parquet(context)

    def _use_parquet(self, context: SinkContext) -> None:
        try:
            from forwarder.sinks.object_store import parquet  # noqa: PLC0415 - an extra
        except ImportError as error:
            install = "pip install 'cloudflare-access-forwarder[parquet]'"
            raise ConfigError(f"file_format: parquet: {error} ({install})") from error
        ocsf = context.format == "ocsf"
        version = getattr(context.format_settings, "ocsf_version", "")
        if self._lake is not None and (not ocsf or version != _LAKE_VERSION):
            raise ConfigError(
                f"layout: security_lake needs format: ocsf with ocsf_version: {_LAKE_VERSION}"
            )
        self._line = parquet.line_of
        if ocsf:
            self._line = parquet.ocsf_line_of if self._lake else parquet.mixed_line_of
        self._packer = lambda kind: parquet.Rows(kind, ocsf=ocsf)
        self._media_type, self._suffix = "application/vnd.apache.parquet", ".parquet"

    def of(self, batch: Batch) -> tuple[list[LakeObject], list[Rejection]]:
        """Return the objects that hold a batch's events, and the events that fit into none.

        Releases the batch.
        """
        made: list[LakeObject] = []
        rejected: list[Rejection] = []
        events = sorted(batch.events, key=self._order, reverse=True)
        batch.release()
        # Each event is dropped as it is packed, so that memory holds a batch once and not twice.
        taken = (events.pop() for _ in range(len(events)))
        for place, some in groupby(taken, key=self._place):
            piles: dict[int, _Pile] = {}
            for event in some:
                try:
                    kind, line = self._line(event)
                except ValueError:
                    reason = "its body is no JSON object, which OCSF in Parquet needs"
                    rejected.append(Rejection(event.offset, reason))
                    continue
                if kind not in piles:
                    piles[kind] = _Pile(self._packer(kind))
                piles[kind].add(event, line)
            for kind, pile in piles.items():
                name, body = pile.finish()
                whole = f"{self._folder(place, kind)}{name}{self._suffix}"
                made.append(LakeObject(whole, self._media_type, body))
        return made, rejected

    def _place(self, event: BatchEvent) -> Place:
        if self._lake is not None:
            return "", "", event.time_us - event.time_us % _DAY_US
        return event.stream, event.account, event.time_us - event.time_us % _HOUR_US

    def _order(self, event: BatchEvent) -> tuple[Place, int, int]:
        return self._place(event), event.time_us, event.offset

    def _folder(self, place: Place, kind: int) -> str:
        """Return what the names of all objects of ``place`` begin with."""
        stream, account, begin_us = place
        date, hour = format_us(begin_us)[:10], format_us(begin_us)[11:13]
        if self._lake is not None:
            return (
                f"ext/{self._lake.source_prefix}-{kind}/region={self._lake.region}/"
                f"accountId={self._lake.account_id}/eventDay={date.replace('-', '')}/"
            )
        # Own events that are about no account have none.
        stream, account = quote(stream, safe=""), quote(account, safe="") or "none"
        if self._layout == "flat":
            return f"{stream}.{account}.{date}T{hour}."
        return f"stream={stream}/account={account}/date={date}/hour={hour}/"


def _body(event: BatchEvent) -> tuple[int, bytes]:
    return 0, event.body


def _stamp(time_us: int) -> str:
    return format_us(time_us)[:19].replace("-", "").replace(":", "")
