"""How a destination is reached over HTTP: the settings that all HTTP sinks share."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from forwarder.transport.secrets import Secret
from forwarder.transport.settings import PluginSettings, TlsSettings
from forwarder.transport.units import Duration


class HttpSettings(PluginSettings):
    """One or several URLs, and how to get there."""

    url: str | None = Field(None, description="address of the destination")
    urls: tuple[str, ...] = Field((), description="several addresses, instead of url")
    balance: Literal["failover", "round_robin"] = Field(
        "failover",
        description="failover uses the first address that works; round_robin uses all in turn",
    )
    tls: TlsSettings = Field(TlsSettings(), description="how https connections are protected")
    proxy: str | None = Field(
        None, description="http or https proxy; otherwise https_proxy and no_proxy of the process"
    )
    proxy_username: str | None = Field(None, description="user for the proxy")
    proxy_password: Secret | None = Field(None, description="password for the proxy")
    connect_timeout: Duration = Field(
        10.0, description="longest time for resolving, connecting and the TLS handshake", gt=0
    )
    response_timeout: Duration = Field(
        30.0, description="longest time from the start of a request to the end of its answer", gt=0
    )
    gzip: bool = Field(True, description="compress request bodies")

    @field_validator("url", "proxy")
    @classmethod
    def _check_one(cls, value: str | None) -> str | None:
        return None if value is None else clean_url(value)

    @field_validator("urls")
    @classmethod
    def _check_all(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(clean_url(value) for value in values)

    @model_validator(mode="after")
    def _one_of_url_and_urls(self) -> HttpSettings:
        if self._needs_url() and bool(self.url) == bool(self.urls):
            raise ValueError("give either url or urls")
        return self

    def _needs_url(self) -> bool:
        """Say whether an address must be given; a sink may know another way to name it."""
        return True

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the addresses in order of preference, without a slash at the end."""
        return self.urls or ((self.url,) if self.url else ())


def clean_url(value: str) -> str:
    """Return an http or https URL without a slash at its end.

    Raises ``ValueError`` for another scheme, a missing host, and for a user or password in it,
    which would show in logs.
    """
    try:
        parts = urlsplit(value.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("is no URL; write for example https://host:8088") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("is no http or https URL; write for example https://host:8088")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user and no password; there are keys of their own for them")
    if parts.fragment:
        raise ValueError("must have no part after #")
    return value.strip().rstrip("/")


def origin(url: str) -> str:
    """Return scheme, host and port: what may be shown of a URL, whose path may be a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
