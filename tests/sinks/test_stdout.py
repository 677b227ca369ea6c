"""The stdout sink writes whole lines to a pipe, whatever the reader does."""

import asyncio
import os
import select
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson
import pytest

from forwarder.core.contracts import Sink
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.stdout import StdoutSink
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from forwarder.testing.sink_contract import SinkContract


class Pipe:
    """A pipe, read on demand, as whatever stands behind standard output."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.text = b""

    def sink(self) -> Sink:
        return StdoutSink(StdoutSink.Config(), sink_context(), fd=self.writer)

    def read(self) -> bytes:
        """Return everything that was ever written."""
        while True:
            try:
                part = os.read(self.reader, 1 << 20)
            except BlockingIOError:
                return self.text
            if not part:
                return self.text
            self.text += part

    async def begun(self) -> None:
        """Return when something can be read."""
        async with asyncio.timeout(60):
            while not select.select([self.reader], [], [], 0)[0]:  # noqa: ASYNC110 - a pipe
                await asyncio.sleep(0.01)

    def arrived(self) -> Mapping[str, int]:
        return Counter(orjson.loads(line)["id"] for line in self.read().splitlines())

    def close(self) -> None:
        for fd in (self.reader, self.writer):
            try:
                os.close(fd)
            except OSError:
                continue


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


class TestStdout(SinkContract):
    @pytest.fixture
    def destination(self, pipe: Pipe) -> Pipe:
        return pipe


async def read_while(task: "asyncio.Task[object]", pipe: Pipe) -> None:
    while not task.done():
        pipe.read()
        await asyncio.sleep(0.001)


async def test_a_batch_larger_than_the_pipe_is_written_whole(pipe: Pipe) -> None:
    batch = make_batch(5000)
    lines = b"".join(event.body + b"\n" for event in batch.events)
    writing = asyncio.create_task(pipe.sink().write(batch))
    await read_while(writing, pipe)
    await writing

    assert pipe.read() == lines


async def test_a_stalled_reader_does_not_stop_the_loop(pipe: Pipe) -> None:
    writing = asyncio.create_task(pipe.sink().write(make_batch(5000)))

    for _ in range(5):
        await asyncio.wait_for(asyncio.sleep(0.01), 30)

    assert not writing.done()
    writing.cancel()
    await asyncio.wait([writing])


async def test_a_cut_line_is_completed_before_anything_else_is_written(pipe: Pipe) -> None:
    sink = pipe.sink()
    long = make_event(0, body=b'{"id":"long","text":"' + b"x" * 200_000 + b'"}')
    writing = asyncio.create_task(sink.write(batch_of([long])))
    await pipe.begun()
    writing.cancel()
    await asyncio.wait([writing])

    again = asyncio.create_task(sink.write(batch_of([long])))
    await read_while(again, pipe)
    await again

    assert pipe.read().splitlines() == [long.body, long.body]


async def test_a_write_cancelled_before_its_first_byte_keeps_the_cut_line(pipe: Pipe) -> None:
    sink = pipe.sink()
    long = make_event(0, body=b"x" * 200_000)
    for _ in range(2):
        writing = asyncio.create_task(sink.write(batch_of([long])))
        await pipe.begun()
        await asyncio.sleep(0.1)
        writing.cancel()
        await asyncio.wait([writing])
        await asyncio.sleep(0.1)

    again = asyncio.create_task(sink.write(make_batch(1)))
    await read_while(again, pipe)
    await again

    assert pipe.read().splitlines() == [long.body, make_event(0).body]


async def test_a_closed_pipe_asks_for_a_person(pipe: Pipe) -> None:
    sink = pipe.sink()
    os.close(pipe.reader)

    with pytest.raises(NeedsOperatorError):
        await sink.write(make_batch(1))
    with pytest.raises(NeedsOperatorError):
        await sink.open()


async def test_a_closed_descriptor_asks_for_a_person() -> None:
    sink = StdoutSink(StdoutSink.Config(), sink_context(), fd=9999)

    with pytest.raises(NeedsOperatorError):
        await sink.open()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
async def test_a_full_disk_behind_standard_output_is_an_outage() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    sink = StdoutSink(StdoutSink.Config(), sink_context(), fd=full)

    with pytest.raises(TransientError) as caught:
        await sink.write(make_batch(1))

    assert not isinstance(caught.value, NeedsOperatorError)
    os.close(full)
