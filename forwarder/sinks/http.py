"""Posts batches to any HTTP endpoint, as JSON lines, a JSON array or lines of text."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from forwarder.core.contracts import (
    ACCEPTED,
    Batch,
    BatchLimits,
    Finding,
    SinkContext,
    WriteResult,
)
from forwarder.core.errors import BatchRefusedError, ConfigError
from forwarder.transport.http import Answer
from forwarder.transport.http_destination import HttpAuth, HttpDestination, finding, no_batch
from forwarder.transport.presets import Preset, format_of, presets, with_preset
from forwarder.transport.settings import Secret, Settings, Url, origin


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


class HttpSinkConfig(HttpAuth):
    """Where events are posted, in which form, and how the receiver knows us."""

    preset: (
        Literal[
            "axiom",
            "clickhouse",
            "datadog",
            "google_secops",
            "logstash",
            "panther",
            "sumo_logic",
        ]
        | None
    ) = Field(None, description="defaults that fit a product; every key can still be set")
    method: Literal["POST", "PUT"] = Field("POST", description="HTTP method")
    body: Literal["lines", "array"] = Field(
        "lines", description="one event a line (NDJSON), or one JSON array"
    )
    content_type: str | None = Field(None, description="Content-Type instead of the usual one")
    signature: SignatureConfig | None = Field(None, description="sign each request")
    success_codes: tuple[int, ...] = Field(
        (), description="the only answers that count as delivered; every 2xx if unset"
    )
    health_url: Url | None = Field(
        None, description="address that answers GET with a success when writing can work"
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, given: Any) -> Any:
        return with_preset("http", given)

    @model_validator(mode="after")
    def _fits_its_preset(self) -> HttpSinkConfig:
        for url in self.urls or (self.url or "",):
            if self.known is not None and (problem := self.known.problem(url, self.headers)):
                raise ValueError(problem)
        return self

    @property
    def known(self) -> Preset | None:
        """Return the preset that was chosen."""
        return presets("http")[self.preset] if self.preset else None


def content_type(config: HttpSinkConfig, media_type: str) -> str:
    """Return the type from the settings, or the usual one for the form of the body."""
    if config.content_type:
        return config.content_type
    if config.body == "array":
        return "application/json"
    return "application/x-ndjson" if media_type == "application/json" else media_type


def signature(config: SignatureConfig, body: bytes, now_us: int) -> Mapping[str, str]:
    """Return the headers that prove that the sender of ``body`` knows the secret."""
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
        self._http = HttpDestination(config, context)
        self._content_type = content_type(config, context.media_type)

    @classmethod
    def format_for(cls, settings: Mapping[str, Any]) -> str:
        """Return the format that the preset in unchecked ``settings`` wants, or the default."""
        return format_of("http", settings, cls.default_format)

    @property
    def limits(self) -> BatchLimits:
        """Return what the preset or else the engine has, and a time limit above the client's."""
        limits = BatchLimits(write_timeout=self._config.response_timeout * 2)
        return replace(limits, **self._config.known.limits) if self._config.known else limits

    async def open(self) -> None:
        """Request the health address if there is one; an empty POST would prove nothing."""
        self._config.authorization()  # raises for a secret file that cannot be read
        if self._config.health_url is not None:
            with no_batch():
                self._check(await self._http.ask("GET", self._config.health_url))

    async def write(self, batch: Batch) -> WriteResult:
        """Post the batch and trust the status."""
        if self._config.body == "array":
            body = b"[" + b",".join([event.body for event in batch.events]) + b"]"
        else:
            body = batch.lines()
        body = await self._http.packed(body)
        headers = {"Content-Type": self._content_type}
        if self._config.signature is not None:
            headers |= signature(self._config.signature, body, self._clock.now_us())
        with self._http.attempt() as url:
            self._check(await self._http.send(self._config.method, url, body, headers))
        return ACCEPTED

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def diagnose(self) -> Sequence[Finding]:
        """Request the health address, or warn that there is none."""
        if self._config.health_url is None:
            text = "cannot be tried without sending events; set health_url to have it checked"
            return [Finding("warning", origin(self._http.urls[0]), text)]
        subject = origin(self._config.health_url)
        return [await finding(subject, self.open(), "answers with a success")]

    def _check(self, answer: Answer) -> None:
        """Raise what the status stands for, unless it is a success here."""
        known, wanted = self._config.known, self._config.success_codes
        error = known.error(answer.status, answer.body, answer.where) if known else None
        if error is not None:
            raise error
        # First, since a status such as 409 may be declared a success and is an error otherwise.
        if answer.status in wanted:
            return
        self._http.check(answer)
        if wanted:
            said = f"{answer.where} answered {answer.status}, which is not in success_codes"
            raise BatchRefusedError(said)
