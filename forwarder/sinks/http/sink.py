"""The generic HTTP sink."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from forwarder.core.contracts import SinkContext
from forwarder.core.errors import (
    BatchRefusedError,
    ConfigError,
    ForwarderError,
    TransientError,
)
from forwarder.core.model import ACCEPTED, Batch, BatchLimits, Finding, WriteResult
from forwarder.sinks.http.config import HttpSinkConfig
from forwarder.sinks.http.request import authentication, content_type, encode, signature
from forwarder.transport.compression import gzipped
from forwarder.transport.endpoints import Endpoints
from forwarder.transport.http import Answer, HttpClient
from forwarder.transport.http_settings import origin
from forwarder.transport.http_status import status_error


class HttpSink:
    """Posts each batch as one request; a success in answer counts for the whole batch."""

    Config: ClassVar[type[HttpSinkConfig]] = HttpSinkConfig
    default_format: ClassVar[str] = "raw"
    summary: ClassVar[str] = "any HTTP endpoint, as JSON lines or a JSON array"

    def __init__(self, config: HttpSinkConfig, context: SinkContext) -> None:
        """Prepare everything that needs no connection."""
        if config.body == "array" and context.media_type != "application/json":
            raise ConfigError(f"sink {context.name}: body: array needs a JSON format")
        self._config = config
        self._clock = context.clock
        self._client = HttpClient(config, context.user_agent)
        spread = config.balance == "round_robin"
        self._endpoints = Endpoints(config.addresses, context.clock, spread=spread)
        self._content_type = content_type(config, context.media_type)

    @property
    def limits(self) -> BatchLimits:
        """Return the engine's defaults, and a time-out above the client's own."""
        return BatchLimits(write_timeout=self._config.response_timeout * 2)

    async def open(self) -> None:
        """Ask for the health where there is an address for it; posting nothing proves nothing."""
        authentication(self._config)
        if self._config.health_url is not None:
            url = self._config.health_url
            headers = authentication(self._config)
            error = self._judge(url, await self._client.request("GET", url, headers=headers))
            if error is not None:
                raise error if isinstance(error, TransientError) else TransientError(str(error))

    async def write(self, batch: Batch) -> WriteResult:
        """Post the batch and believe the status."""
        body = encode(batch.events, array=self._config.body == "array")
        headers = {"Content-Type": self._content_type, **authentication(self._config)}
        if self._config.gzip:
            body = await gzipped(body)
            headers["Content-Encoding"] = "gzip"
        if self._config.signature is not None:
            headers |= signature(self._config.signature, body, self._clock.now_us())
        url = self._endpoints.next()
        try:
            answer = await self._client.request(
                self._config.method, url, headers=headers, body=body
            )
            error = self._judge(url, answer)
            if error is not None:
                raise error
        except TransientError:
            self._endpoints.failed(url)
            raise
        self._endpoints.answered(url)
        return ACCEPTED

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def diagnose(self) -> Sequence[Finding]:
        """Say whether the health address answers, or that there is none to ask."""
        if self._config.health_url is None:
            text = "cannot be tried without sending events; set health_url to have it checked"
            return [Finding("warning", origin(self._endpoints.urls[0]), text)]
        subject = origin(self._config.health_url)
        try:
            await self.open()
        except TransientError as error:
            return [Finding("fault", subject, str(error), error.hint)]
        return [Finding("ok", subject, "answers with a success")]

    def _judge(self, url: str, answer: Answer) -> ForwarderError | None:
        """Return what the status stands for, None for a success."""
        wanted, where = self._config.success_codes, origin(url)
        asked = answer.retry_after(self._clock.now_us())
        if wanted and answer.status in wanted:
            return None
        error = status_error(answer.status, where, retry_after=asked)
        if error is None and wanted:
            return BatchRefusedError(f"{where} answered {answer.status}, which is no success here")
        return error
