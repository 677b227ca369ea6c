"""The settings of the generic HTTP sink."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from forwarder.transport.http_settings import HttpSettings, clean_url
from forwarder.transport.secrets import Secret
from forwarder.transport.settings import Settings

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
