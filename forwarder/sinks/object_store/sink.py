"""Object storage: each batch becomes objects, written whole, named by what they hold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from forwarder.core.contracts import (
    ACCEPTED,
    Batch,
    BatchLimits,
    Finding,
    SinkContext,
    WriteResult,
)
from forwarder.core.errors import ConfigError
from forwarder.sinks.object_store.config import ObjectStoreConfig
from forwarder.sinks.object_store.objects import LakeObject, Objects
from forwarder.transport.http_destination import finding

# Objects that are written at the same time; a backfill has one for each hour.
_AT_ONCE = 4


class ObjectStoreSink:
    """Writes large batches to a bucket; an event is delivered when its object is there."""

    Config: ClassVar[type[ObjectStoreConfig]] = ObjectStoreConfig
    default_format: ClassVar[str] = "ocsf"
    summary: ClassVar[str] = "S3, R2, Google Cloud Storage, Azure Blob: lines or Parquet for a lake"

    def __init__(self, config: ObjectStoreConfig, context: SinkContext) -> None:
        """Prepare everything that needs no connection."""
        try:
            from forwarder.sinks.object_store.stores import Bucket  # noqa: PLC0415 - an extra
        except ImportError as error:
            install = "pip install 'cloudflare-access-forwarder[object-store]'"
            raise ConfigError(f"obstore is not installed ({install})") from error
        self._config = config
        self._bucket = Bucket(config, context)
        self._objects = Objects(config, context)
        # One thread: packing allocates much, and the allocator keeps what each thread has used.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"packing {context.name}")

    @property
    def limits(self) -> BatchLimits:
        """Return few and large batches: readers of a lake suffer from many small objects."""
        return BatchLimits(
            max_events=25_000,
            max_bytes=16_000_000,
            max_wait=300.0,
            max_in_flight=1,
            write_timeout=self._config.response_timeout * 5,
        )

    async def open(self) -> None:
        """Prove that the bucket is there and takes our log-in."""
        await self._bucket.check()

    async def write(self, batch: Batch) -> WriteResult:
        """Return when every object of the batch is in the bucket.

        If one cannot be written, the whole batch comes again, and overwrites what was written.
        """
        # Should the bucket fail, the engine reads the events again: what is kept is compressed.
        loop = asyncio.get_running_loop()
        objects, rejected = await loop.run_in_executor(self._thread, self._objects.of, batch)
        while objects:
            await self._put([objects.pop() for _ in objects[:_AT_ONCE]])
        return WriteResult(rejected=rejected) if rejected else ACCEPTED

    async def _put(self, some: Sequence[LakeObject]) -> None:
        puts = [self._bucket.put(one) for one in some]
        # All are waited for: no write may go on behind the back of the engine.
        results = await asyncio.gather(*puts, return_exceptions=True)
        for result in results:
            if result is not None:
                raise result

    async def diagnose(self) -> Sequence[Finding]:
        """Check the bucket, and change nothing."""
        return [
            await finding(self._config.where, self._bucket.check(), "is there, and we may log in")
        ]

    async def aclose(self) -> None:
        """Start no more packing; obstore's connections end with the bucket."""
        self._thread.shutdown(wait=False, cancel_futures=True)
