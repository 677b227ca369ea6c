"""The settings of the receiver, without the address: the key ``logpush``."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, field_validator

from forwarder.transport.settings import (
    Duration,
    Secret,
    Settings,
    Size,
    TlsSettings,
    split_address,
)

DATASET = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")
"""Names of datasets, as Cloudflare writes them."""
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_OF_HTTP = re.compile(r"(?i)connection|content-.*|expect|host|te|trailer|transfer-.*|upgrade")
"""Headers that the client sets by itself."""


def _network(given: Any) -> Any:
    try:
        # As text, always: the number 12 would be the address 0.0.0.12.
        return ip_network(str(given))
    except ValueError as error:
        raise ValueError(f"{given!r} is not a network, such as 198.51.100.0/24") from error


Network = Annotated[
    IPv4Network | IPv6Network,
    BeforeValidator(_network),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string"}),
]
"""A network in CIDR notation."""


class Limits(Settings):
    """What one client may take."""

    connections: int = Field(64, ge=1, le=10_000, description="connections open at one time")
    body: Size = Field(16 * 2**20, ge=1024, description="bytes of a body as it is sent")
    decompressed: Size = Field(64 * 2**20, ge=1024, description="bytes of a body unpacked")
    line: Size = Field(
        2**20, ge=1024, description="bytes of a row; the beginning of a longer one is kept"
    )
    time: Duration = Field(30.0, gt=0, le=600, description="longest time to send a body")
    refusals: int = Field(
        5,
        ge=1,
        description="how often one invalid body is refused; then its beginning is stored as a "
        "malformed event, and it is accepted",
    )


class PeerSettings(Settings):
    """How the replicas of a shared journal reach each other, to pass pushes on to the owner."""

    host: str | None = Field(
        None, description="name or address of this replica; default: that of listen, or the host's"
    )
    tls: TlsSettings = Field(
        TlsSettings(), description="how the other replicas' certificates are verified"
    )

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, host: str | None) -> str | None:
        if host is not None and split_address(host)[1] is not None:
            raise ValueError(f"{host!r} must have no port; the port is that of listen")
        return host


class LogpushConfig(Settings):
    """Who may push which datasets, and what sinks get of them."""

    # A dataset is not the log of the same name that is polled: the keys of its rows differ.
    stream_prefix: ClassVar[str] = "logpush_"

    header: str = Field("Authorization", description="name of the header that holds the secret")
    secret: Secret = Field(
        description="value of that header; two lines while it changes, and both are valid"
    )
    allow: tuple[Network, ...] = Field(
        (), description="networks that may connect; default: all, since Cloudflare names none"
    )
    limits: Limits = Field(Limits(), description="bounds of bodies and connections")
    datasets: tuple[str, ...] = Field((), description="names of datasets to accept; default: any")
    peer: PeerSettings = Field(PeerSettings(), description="how replicas reach each other")

    deliver: Literal["poll", "push", "both"] = Field(
        "poll",
        description="which logins sinks get of an account whose authentication log is also "
        "polled; the others are stored and not delivered. With both, each login is two events",
    )

    def secrets(self) -> list[str]:
        """Return the secrets that are valid now; raises ``NeedsOperatorError``."""
        lines = map(str.strip, self.secret.reveal().splitlines())
        return [line for line in lines if line]

    @field_validator("header")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not _HEADER.fullmatch(name):
            raise ValueError("must be the name of a header: letters, digits and hyphens")
        if _OF_HTTP.fullmatch(name):
            raise ValueError(f"{name!r} belongs to HTTP itself; use Authorization, or X-Secret")
        return name

    @field_validator("datasets")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not DATASET.fullmatch(name):
                raise ValueError(f"{name!r} is not a dataset, such as http_requests")
        return names
