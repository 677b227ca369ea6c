"""The Elasticsearch and OpenSearch sink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from forwarder.core.contracts import Batch, BatchLimits, Finding, SinkContext, WriteResult
from forwarder.core.errors import ForwarderError, NeedsOperatorError, TransientError
from forwarder.sinks.elasticsearch.bulk import FILTER, Bulk, judge
from forwarder.sinks.elasticsearch.config import (
    ElasticsearchConfig,
    known_targets,
    makes_data_stream,
    target_template,
)
from forwarder.sinks.elasticsearch.diagnosis import findings
from forwarder.transport.compression import gzipped
from forwarder.transport.http import Answer, HttpClient, status_error
from forwarder.transport.http_destination import Endpoints
from forwarder.transport.settings import origin

_LARGEST_ANSWER = 32 * 2**20


class ElasticsearchSink:
    """Creates each event under its own id, in the data stream of its log."""

    Config: ClassVar[type[ElasticsearchConfig]] = ElasticsearchConfig
    default_format: ClassVar[str] = "ecs"
    summary: ClassVar[str] = "Elasticsearch or OpenSearch data streams, without duplicates"

    def __init__(self, config: ElasticsearchConfig, context: SinkContext) -> None:
        """Prepare everything that needs no connection."""
        self._config = config
        self._clock = context.clock
        self._client = HttpClient(config, context.user_agent)
        spread = config.balance == "round_robin"
        self._endpoints = Endpoints(config.addresses, context.clock, spread=spread)
        self._bulk = Bulk(target_template(config), context)

    @property
    def limits(self) -> BatchLimits:
        """Return at most 1,000 events and 4 MB a request, below any server's own limit."""
        return BatchLimits(
            max_bytes=4_000_000, write_timeout=self._config.response_timeout * 2, max_in_flight=4
        )

    async def open(self) -> None:
        """See that one node at least knows us and that the data streams are or will be right."""
        await self._endpoints.probe(self._greet)
        url = self._endpoints.next()
        for name in known_targets(self._config):
            await self._expect_data_stream(url, name)

    async def write(self, batch: Batch) -> WriteResult:
        """Send one bulk request and sort the events by what became of each."""
        offsets = [event.offset for event in batch.events]
        body = self._bulk.encode(batch.events)
        headers = self._headers("application/x-ndjson")
        if self._config.gzip:
            body = await gzipped(body)
            headers["Content-Encoding"] = "gzip"
        url = self._endpoints.next()
        try:
            answer = await self._client.request(
                "POST",
                f"{url}/_bulk?{FILTER}",
                headers=headers,
                body=body,
                largest=_LARGEST_ANSWER,
            )
            self._check(url, answer)
            result = judge(answer.body, offsets, origin(url))
        except TransientError:
            self._endpoints.failed(url)
            raise
        self._endpoints.answered(url)
        return result

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def diagnose(self) -> Sequence[Finding]:
        """Say of every node whether it is there, and of the data streams what they lack."""
        found: list[Finding] = []
        for url in self._endpoints.urls:
            try:
                found += await findings(self._ask, url, known_targets(self._config))
            except TransientError as error:
                found.append(Finding("fault", origin(url), str(error), error.hint))
        return found

    async def _greet(self, url: str) -> None:
        """Ask who is there; a key that may only write is refused an answer, but is known."""
        answer = await self._ask("GET", f"{url}/")
        if answer.status != 403:  # noqa: PLR2004 - forbidden, but not unauthorised
            self._check(url, answer, batch=False)

    async def _expect_data_stream(self, url: str, name: str) -> None:
        """Raise when writing to ``name`` would make a plain index, which nothing rolls over.

        A key that may not look is given the benefit of the doubt.
        """
        if (await self._ask("GET", f"{url}/_data_stream/{name}")).status != 404:  # noqa: PLR2004
            return
        answer = await self._ask("GET", f"{url}/_index_template")
        if answer.status == 200 and not makes_data_stream(answer.body, name):  # noqa: PLR2004
            raise NeedsOperatorError(
                f"{origin(url)} has no index template that makes {name} a data stream",
                hint="put the templates of deploy/elastic there, or set index",
            )

    async def _ask(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Answer:
        return await self._client.request(
            method,
            url,
            headers=self._headers("application/json"),
            body=None if body is None else orjson.dumps(body),
            largest=_LARGEST_ANSWER,
        )

    def _check(self, url: str, answer: Answer, *, batch: bool = True) -> None:
        """Raise what the status stands for."""
        asked = answer.retry_after(self._clock.now_us())
        error = status_error(answer.status, origin(url), retry_after=asked)
        if error is None:
            return
        raise error if batch or isinstance(error, TransientError) else _outage(error)

    def _headers(self, kind: str) -> dict[str, str]:
        return {"Content-Type": kind, **self._config.authorization()}


def _outage(error: ForwarderError) -> TransientError:
    """Return a refusal as an outage where there is no batch to refuse."""
    return TransientError(str(error))
