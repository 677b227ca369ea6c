"""The sink keeps the contract, and believes nothing but the right number."""

import asyncio
from collections import Counter

import orjson
import pytest
from forwarder.core.errors import TransientError
from forwarder.testing.fake_sinks import make_batch, sink_context
from forwarder.testing.sink_contract import OutageContract
from lines_sink import LinesConfig, LinesSink


class Receiver:
    """Stores lines and answers with their number."""

    secrets = ("no secret is needed",)  # texts that no error may show

    def __init__(self):
        self.answer = b"%d\n"
        self._lines = []
        self._requests = 0
        self._server = None
        self._port = 0
        self._well = asyncio.Event()

    def sink(self):
        return LinesSink(LinesConfig(host="127.0.0.1", port=self._port), sink_context())

    def arrived(self):
        return Counter(orjson.loads(line)["id"] for line in self._lines)

    def requests(self):
        return self._requests

    async def come_back(self):
        self._well.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def go_down(self):
        self._server.close()
        await self._server.wait_closed()
        self._server = None

    async def hang(self):
        self._well.clear()

    async def _serve(self, reader, writer):
        lines = (await reader.read()).splitlines()
        self._requests += bool(lines)
        if self._well.is_set():
            self._lines += lines
            writer.write(self.answer.replace(b"%d", b"%d" % len(lines)))
        await self._well.wait()
        writer.close()


class TestLinesSink(OutageContract):
    @pytest.fixture
    async def destination(self):
        receiver = Receiver()
        await receiver.come_back()
        yield receiver
        await receiver.come_back()
        await receiver.go_down()

    @pytest.mark.parametrize("answer", [b"", b"1\n", b"no\n"])
    async def test_what_was_not_confirmed_is_not_delivered(self, destination, answer):
        sink = destination.sink()
        await sink.open()
        destination.answer = answer

        with pytest.raises(TransientError):
            await sink.write(make_batch(3))
