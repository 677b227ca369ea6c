"""Posts batches to any HTTP endpoint.

Posts batches to a URL.

The settings of the generic HTTP sink.

Bodies and headers of the generic HTTP sink: pure functions, with the time as an argument.

The generic HTTP sink.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from forwarder.core.contracts import (
    ACCEPTED,
    Batch,
    BatchEvent,
    BatchLimits,
    Finding,
    SinkContext,
    WriteResult,
)
from forwarder.core.errors import (
    BatchRefusedError,
    ConfigError,
    ForwarderError,
    TransientError,
)
from forwarder.transport.compression import gzipped
from forwarder.transport.http import Answer, HttpClient, basic, status_error
from forwarder.transport.http_destination import Endpoints
from forwarder.transport.settings import HttpSettings, Secret, Settings, clean_url, origin

_OURS = frozenset({"content-length", "transfer-encoding", "content-encoding", "host", "connection"})


class SignatureConfig(Settings):
    """A keyed hash over the body as it is sent, for receivers that check who sent it."""

    secret: Secret = Field(description="shared secret, or secret_file")
    algorithm: Literal["sha256", "sha512"] = Field("sha256", description="hash function")
    header: str = Field("X-Signature-256", description="header that carries the signature")
    prefix: str = Field("sha256=", description="text before the hex digits")
    timestamp_header: str | None = Field(
        None,
        description="header that carries the time in seconds; if set, what is signed is the time, "
        "a full stop and the body, so that an old request cannot be sent again",
    )


class HttpSinkConfig(HttpSettings):
    """Where events are posted, in which form, and how the receiver knows us."""

    method: Literal["POST", "PUT"] = Field("POST", description="HTTP method")
    body: Literal["lines", "array"] = Field(
        "lines", description="one event a line (NDJSON), or one JSON array"
    )
    content_type: str | None = Field(None, description="Content-Type instead of the usual one")
    headers: dict[str, Secret] = Field(
        {}, description="more headers, each NAME: VALUE or NAME_file: PATH; shown nowhere"
    )
    bearer_token: Secret | None = Field(None, description="token for bearer authentication")
    username: str | None = Field(None, description="user for basic authentication")
    password: Secret | None = Field(None, description="password for basic authentication")
    signature: SignatureConfig | None = Field(None, description="sign each request")
    success_codes: tuple[int, ...] = Field(
        (), description="the only answers that count as delivered; every 2xx if unset"
    )
    health_url: str | None = Field(
        None, description="address that answers GET with a success when writing can work"
    )

    @field_validator("health_url")
    @classmethod
    def _check_health_url(cls, value: str | None) -> str | None:
        return None if value is None else clean_url(value)

    @field_validator("headers")
    @classmethod
    def _only_headers_that_are_free(cls, value: dict[str, Secret]) -> dict[str, Secret]:
        for name in value:
            if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"{name!r} is no name of a header")
            if name.lower() in _OURS:
                raise ValueError(f"{name} is set by the program itself")
        return value

    @model_validator(mode="after")
    def _one_way_in(self) -> HttpSinkConfig:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        if self.bearer_token is not None and self.username is not None:
            raise ValueError("give one of bearer_token and username with password")
        return self


def encode(events: Sequence[BatchEvent], *, array: bool) -> bytes:
    """Return the bodies one a line, or as one JSON array."""
    if array:
        return b"[" + b",".join([event.body for event in events]) + b"]"
    return b"".join([part for event in events for part in (event.body, b"\n")])


def content_type(config: HttpSinkConfig, media_type: str) -> str:
    """Return what the body is: the settings' word, or the usual name for its form."""
    if config.content_type:
        return config.content_type
    if config.body == "array":
        return "application/json"
    return "application/x-ndjson" if media_type == "application/json" else media_type


def authentication(config: HttpSinkConfig) -> dict[str, str]:
    """Return the headers that hold secrets, read anew at each call."""
    headers = {name: secret.reveal() for name, secret in config.headers.items()}
    if config.bearer_token is not None:
        headers["Authorization"] = f"Bearer {config.bearer_token.reveal()}"
    if config.username is not None and config.password is not None:
        headers["Authorization"] = basic(config.username, config.password.reveal())
    return headers


def signature(config: SignatureConfig, body: bytes, now_us: int) -> Mapping[str, str]:
    """Return the headers that prove that ``body`` comes from who knows the secret."""
    headers, signed = {}, body
    if config.timestamp_header:
        seconds = str(now_us // 1_000_000)
        headers[config.timestamp_header] = seconds
        signed = seconds.encode() + b"." + body
    digest = hmac.digest(config.secret.reveal().encode(), signed, config.algorithm)
    return headers | {config.header: config.prefix + digest.hex()}


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
