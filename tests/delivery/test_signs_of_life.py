"""A consumer that runs says so, whatever its sink does, so that a stuck one can be noticed."""

import asyncio
from itertools import pairwise

import pytest

from forwarder.testing.fake_sinks import ScriptedSink, hang
from tests.delivery.rig import Rig


@pytest.mark.parametrize(
    ("rows", "sink"),
    [(0, ScriptedSink()), (10, ScriptedSink()), (10, ScriptedSink(otherwise=hang))],
    ids=["nothing to do", "all delivered", "a sink that hangs"],
)
async def test_it_beats_at_least_every_half_minute(rows: int, sink: ScriptedSink) -> None:
    rig, beats = Rig(sink=sink, rows=rows), list[float]()
    task = asyncio.create_task(rig.consumer.run(lambda: beats.append(rig.clock.monotonic())))
    await rig.clock.sleep(600)
    task.cancel()
    await asyncio.wait([task])

    pauses = [after - before for before, after in pairwise(beats)]
    assert max(pauses) < 30.01
    assert 600 - beats[-1] < 30.01
    assert len(beats) < 200
