"""The settings of the Kafka sink."""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from forwarder.transport.oauth import OAuthSettings
from forwarder.transport.settings import (
    Duration,
    PluginSettings,
    Secret,
    Settings,
    Size,
    TlsSettings,
    Url,
    split_address,
)

_TOPIC_FIELDS = {"stream", "account"}


def _as_list(value: Any) -> Any:
    """Split ``a:9092,b:9092`` into a list, as Kafka's own tools do."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


class SaslSettings(Settings):
    """How to log in. Passwords and secrets can also be given as files."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "SCRAM-SHA-512", description="what the brokers' listener offers"
    )
    username: str | None = Field(None, description="for PLAIN and SCRAM")
    password: Secret | None = Field(None, description="for PLAIN and SCRAM")
    token_url: Url | None = Field(None, description="for OAUTHBEARER: where tokens are given out")
    client_id: str | None = Field(None, description="for OAUTHBEARER (client credentials)")
    client_secret: Secret | None = Field(None, description="for OAUTHBEARER")
    scope: str | None = Field(None, description="for OAUTHBEARER, if the token server wants one")
    ca_file: Path | None = Field(None, description="authority of token_url, if not a public one")

    @model_validator(mode="after")
    def _complete(self) -> SaslSettings:
        names: tuple[str, ...] = ("username", "password")
        if self.mechanism == "OAUTHBEARER":
            names = ("token_url", "client_id", "client_secret")
        if missing := [name for name in names if not getattr(self, name)]:
            raise ValueError(f"{self.mechanism} needs {' and '.join(missing)}")
        return self

    def oauth(self) -> OAuthSettings | None:
        """Return where tokens come from, or None for another mechanism."""
        if self.mechanism != "OAUTHBEARER":
            return None
        keys = ("token_url", "client_id", "client_secret", "scope", "ca_file")
        return OAuthSettings.model_validate({key: getattr(self, key) for key in keys})


class KafkaConfig(PluginSettings):
    """Which brokers, which topic, and what a record looks like."""

    bootstrap_servers: Annotated[
        list[str], BeforeValidator(_as_list, json_schema_input_type=str | list[str])
    ] = Field(min_length=1, description="brokers to ask first, host:port")
    topic: str = Field(
        "access.{stream}", min_length=1, description="may hold {stream} and {account}"
    )
    key: Literal["user", "event_id", "account", "none"] = Field(
        "user", description="records with one key stay in order; user: one person's events"
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        "zstd", description="of record batches; zstd needs brokers since 2.1"
    )
    idempotent: bool = Field(
        default=True, description="let brokers drop what a lost answer made us send twice"
    )
    transactional_id: str | None = Field(
        None,
        min_length=1,
        description="make each batch a transaction; another sink with this id is shut out; if the "
        "journal has several shards, each appends its number",
    )
    request_timeout: Duration = Field(
        30.0, gt=0, description="give a batch up when the brokers have not confirmed it by then"
    )
    max_message_bytes: Size = Field(
        1_000_000, ge=1024, description="at most the topic's max.message.bytes"
    )
    client_id: str = Field("forwarder", description="how brokers' logs and quotas call us")
    tls: TlsSettings | None = Field(None, description="protect connections; {} is enough")
    sasl: SaslSettings | None = Field(None, description="log in")

    @field_validator("bootstrap_servers")
    @classmethod
    def _readable_addresses(cls, value: list[str]) -> list[str]:
        for address in value:
            split_address(address)
        return value

    @field_validator("topic")
    @classmethod
    def _known_fields(cls, value: str) -> str:
        try:
            fields = {name for _, name, _, _ in string.Formatter().parse(value) if name is not None}
        except ValueError as error:
            raise ValueError(f"unbalanced braces: {error}") from error
        if unknown := fields - _TOPIC_FIELDS:
            raise ValueError(
                f"no such field: {{{min(unknown)}}}; known are {{stream}}, {{account}}"
            )
        return value

    @field_validator("tls")
    @classmethod
    def _no_other_name(cls, value: TlsSettings | None) -> TlsSettings | None:
        if value is not None and value.server_name:
            # aiokafka passes the host of each broker as the name, and takes no other.
            raise ValueError("server_name does not fit Kafka: each broker is verified by its host")
        return value

    @model_validator(mode="after")
    def _transactions_are_idempotent(self) -> KafkaConfig:
        if self.transactional_id and not self.idempotent:
            # Brokers know a transaction by the producer id and epoch of an idempotent producer.
            raise ValueError("transactional_id needs idempotent: true")
        return self

    def exclusive(self) -> Mapping[str, Any]:
        """Return the transactional id and its brokers: the later sink would fence the earlier."""
        if self.transactional_id is None:
            return {}
        return {"transactional_id": (self.transactional_id, frozenset(self.bootstrap_servers))}

    @property
    def security_protocol(self) -> str:
        """Return Kafka's name for the pair of encryption and log-in."""
        encryption = "SSL" if self.tls is not None else "PLAINTEXT"
        return f"SASL_{encryption}" if self.sasl is not None else encryption
