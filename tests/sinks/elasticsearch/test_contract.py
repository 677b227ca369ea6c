"""The Elasticsearch sink keeps the sink's contract."""

from collections.abc import AsyncIterator, Sequence

import pytest

from forwarder.core.contracts import Sink
from forwarder.sinks.elasticsearch import ElasticsearchConfig, ElasticsearchSink
from forwarder.testing.fake_sinks import sink_context
from forwarder.testing.sink_contract import OperatorFaultContract, OutageContract
from forwarder.transport.settings import Secret
from tests.sinks.fakes.elastic import FakeElastic


class Cluster(FakeElastic):
    @property
    def secrets(self) -> Sequence[str]:
        return (self.api_key,)

    def sink(self) -> Sink:
        config = ElasticsearchConfig(url=self.url, api_key=Secret(self.api_key))
        return ElasticsearchSink(config, sink_context())


class TestElasticsearch(OutageContract, OperatorFaultContract):
    @pytest.fixture
    async def destination(self) -> AsyncIterator[Cluster]:
        async with Cluster() as cluster:
            yield cluster
