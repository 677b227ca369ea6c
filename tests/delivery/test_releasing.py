"""A sink that has handed the bytes over and waits for the answer need not hold the events."""

import asyncio
import gc
import weakref

from forwarder.core.contracts import ACCEPTED, Batch, Rendered, StoredPage, WriteResult
from forwarder.testing.fake_sinks import ScriptedSink
from forwarder.testing.memory_queue import render_plainly
from tests.delivery.rig import Rig


class Id(str):
    """An id whose life can be watched."""

    __slots__ = ("__weakref__",)


def watchable(page: StoredPage) -> Rendered:
    rendered = render_plainly(page)
    events = [event._replace(id=Id(event.id)) for event in rendered.events]
    return Rendered(events, rendered.end_offset, 0)


class Letting(ScriptedSink):
    """Releases the events and checks that nothing else holds them."""

    held: int = -1

    async def write(self, batch: Batch) -> WriteResult:
        watched = [weakref.ref(event.id) for event in batch.events]
        batch.release()
        await asyncio.sleep(0)
        gc.collect()
        self.held = max(self.held, sum(one() is not None for one in watched))
        return ACCEPTED


async def test_nothing_else_holds_the_events_of_a_batch_that_was_let_go() -> None:
    sink = Letting()

    await Rig(sink, rows=50, render=watchable).settle()

    assert sink.held == 0
