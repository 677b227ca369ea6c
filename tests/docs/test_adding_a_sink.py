"""The example in docs/adding-a-sink.md is a sink: it keeps the contract."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest

from forwarder.core.contracts import Sink
from forwarder.core.errors import TransientError
from forwarder.testing.batches import make_batch, sink_context
from forwarder.testing.sink_contract import OutageContract
from tests.docs.example import imported
from tests.docs.shell import ROOT

PAGE = ROOT / "docs/adding-a-sink.md"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    with imported(PAGE, "lines_sink", tmp_path_factory.mktemp("example")) as module:
        yield module


class Receiver:
    """Stores lines and answers with their number."""

    secrets = ("no secret is needed",)

    def __init__(self, plugin: Any) -> None:
        self._plugin = plugin
        self._lines: list[bytes] = []
        self._requests = 0
        self._hanging = False
        self._released = asyncio.Event()
        self._port = 0
        self.answer = b"%d\n"
        self._server: asyncio.Server | None = None

    async def come_back(self) -> None:
        self._hanging = False
        self._released.set()
        self._released = asyncio.Event()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def go_down(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def hang(self) -> None:
        self._hanging = True

    def requests(self) -> int:
        return self._requests

    def arrived(self) -> Mapping[str, int]:
        return Counter(orjson.loads(line)["id"] for line in self._lines)

    def sink(self) -> Sink:
        config = self._plugin.Config(host="127.0.0.1", port=self._port)
        made: Sink = self._plugin(config, sink_context())
        return made

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.read()).splitlines()
        self._requests += bool(lines)
        if self._hanging:
            await self._released.wait()
        else:
            self._lines += lines
            writer.write(self.answer.replace(b"%d", b"%d" % len(lines)))
        writer.close()


class TestLinesSink(OutageContract):
    @pytest.fixture
    async def destination(self, example: ModuleType) -> AsyncIterator[Receiver]:
        receiver = Receiver(example.LinesSink)
        await receiver.come_back()
        yield receiver
        await receiver.come_back()
        await receiver.go_down()

    @pytest.mark.parametrize("answer", [b"", b"1\n", b"no\n"])
    async def test_what_was_not_confirmed_is_not_delivered(
        self, destination: Receiver, answer: bytes
    ) -> None:
        sink = destination.sink()
        await sink.open()
        destination.answer = answer

        with pytest.raises(TransientError):
            await sink.write(make_batch(3))


def test_the_example_is_a_plugin(example: ModuleType) -> None:
    plugin = example.LinesSink

    assert plugin.summary
    assert plugin.default_format == "ocsf"
    assert Path(example.__file__ or "").name == "lines_sink.py"
