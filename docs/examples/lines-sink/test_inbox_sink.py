"""The sink keeps the contract, and a refused line is a value."""

from collections import Counter

import orjson
import pytest
from aiohttp import web
from forwarder.core.contracts import Rejection
from forwarder.core.errors import TransientError
from forwarder.testing.fake_server import FakeServer, body_of, html
from forwarder.testing.fake_sinks import make_batch, sink_context
from forwarder.testing.sink_contract import OperatorFaultContract, OutageContract
from inbox_sink import InboxSink


class Inbox(FakeServer):
    """Stores lines for whoever has the token."""

    secrets = ("t0ken",)  # texts that no error may show

    def __init__(self):
        super().__init__()
        self.lines = []
        self.refused = []

    def sink(self):
        config = InboxSink.Config.model_validate({"url": self.url, "bearer_token": "t0ken"})
        return InboxSink(config, sink_context())

    def arrived(self):
        return Counter(orjson.loads(line)["id"] for line in self.lines)

    async def answer(self, request):
        if self.locked or request.headers["Authorization"] != "Bearer t0ken":
            return web.Response(status=401)
        if request.method == "POST":
            self.lines += (await body_of(request)).splitlines()
        return web.json_response({"refused": self.refused})


class TestInboxSink(OutageContract, OperatorFaultContract):
    @pytest.fixture
    async def destination(self):
        async with Inbox() as inbox:
            yield inbox

    async def test_a_refused_line_is_rejected_with_its_reason(self, destination):
        destination.refused = [{"index": 1, "reason": "no user"}]
        sink = destination.sink()
        result = await sink.write(make_batch(3, first_offset=10))
        await sink.aclose()

        assert list(result.rejected) == [Rejection(11, "no user")]

    async def test_a_log_in_page_is_no_confirmation(self, destination):
        destination.script.append(html(200))
        sink = destination.sink()
        with pytest.raises(TransientError):
            await sink.write(make_batch(3))
        await sink.aclose()
