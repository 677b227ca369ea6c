"""How an aiokafka producer ends: by itself, or taken apart.

An idempotent producer whose brokers are away ends neither a send nor its own ``stop``. Taking it
apart touches parts of aiokafka that are not public, which is why its version is pinned.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Iterator
from typing import Any

from aiokafka import errors as kafka

TAKE_APART = 1.0
"""Seconds that each step of taking apart may take."""


async def stop(producer: Any, grace: float) -> None:
    """Let ``producer`` deliver what it has for ``grace`` seconds, and take it apart after that."""
    try:
        async with asyncio.timeout(grace):
            await producer.stop()
    except (TimeoutError, kafka.KafkaError, OSError):
        await take_apart(producer)


async def take_apart(producer: Any, error: BaseException | None = None) -> None:
    """Fail its batches, cancel its tasks, close its connections; never waits for a broker.

    ``error`` is what interrupted its start, if that is why it ends.
    """
    producer._closed = True  # noqa: SLF001 - see above
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
