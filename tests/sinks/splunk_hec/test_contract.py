"""The Splunk HEC sink keeps the sink's contract, with and without acknowledgement."""

from collections.abc import AsyncIterator, Sequence

import pytest

from forwarder.core.contracts import Sink
from forwarder.sinks.splunk_hec import SplunkHecConfig, SplunkHecSink
from forwarder.testing.fake_sinks import sink_context
from forwarder.testing.sink_contract import OperatorFaultContract, OutageContract
from forwarder.transport.settings import Secret
from tests.sinks.fakes.hec import FakeHec


class Collector(FakeHec):
    @property
    def secrets(self) -> Sequence[str]:
        return (self.token,)

    def sink(self) -> Sink:
        config = SplunkHecConfig(url=self.url, token=Secret(self.token), ack_interval=0.02)
        return SplunkHecSink(config, sink_context())


class TestSplunkHec(OutageContract, OperatorFaultContract):
    @pytest.fixture(params=[False, True], ids=["plain", "acks"])
    async def destination(self, request: pytest.FixtureRequest) -> AsyncIterator[Collector]:
        async with Collector(acks=request.param) as collector:
            yield collector
