"""The settings of the Elasticsearch and OpenSearch sink."""

from __future__ import annotations

import binascii
from base64 import b64decode

from pydantic import Field, field_validator, model_validator

from forwarder.transport.http import basic
from forwarder.transport.http_settings import HttpSettings
from forwarder.transport.secrets import Secret

_NOT_IN_NAMES = frozenset('\\/*?"<>| ,#:-')


class ElasticsearchConfig(HttpSettings):
    """Where the cluster is, who we are there, and which data streams take what.

    ``dataset``, ``namespace`` and ``index`` may hold ``{log}`` (audit, scim or forwarder),
    ``{stream}`` and ``{account}``.
    """

    cloud_id: str | None = Field(None, description="Elastic Cloud's id, instead of url")
    api_key: Secret | None = Field(None, description="API key as base64 of id:key, or its file")
    username: str | None = Field(None, description="user for basic authentication")
    password: Secret | None = Field(None, description="password for basic authentication")
    bearer_token: Secret | None = Field(None, description="token for bearer authentication")
    dataset: str = Field(
        "cloudflare_access.{log}", description="second part of the data stream's name"
    )
    namespace: str = Field("default", description="third part of the data stream's name")
    index: str | None = Field(
        None,
        description="index, alias or data stream to write to, instead of dataset and namespace",
    )

    @field_validator("cloud_id")
    @classmethod
    def _readable_cloud_id(cls, value: str | None) -> str | None:
        if value is not None:
            cloud_url(value)
        return value

    @field_validator("dataset", "namespace")
    @classmethod
    def _fits_into_a_name(cls, value: str) -> str:
        if not value or len(value) > 100 or value != value.lower() or set(value) & _NOT_IN_NAMES:  # noqa: PLR2004 - Elasticsearch's limit
            raise ValueError('must be lower case, at most 100 long, without - and \\/*?"<>| ,#:')
        return value

    @model_validator(mode="after")
    def _one_way_in(self) -> ElasticsearchConfig:
        if self.cloud_id and (self.url or self.urls):
            raise ValueError("give either cloud_id or url")
        if sum(way is not None for way in (self.api_key, self.username, self.bearer_token)) > 1:
            raise ValueError("give one of api_key, username with password, and bearer_token")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        return self

    def _needs_url(self) -> bool:
        return self.cloud_id is None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the nodes in order of preference."""
        return (cloud_url(self.cloud_id),) if self.cloud_id else super().addresses

    def authorization(self) -> dict[str, str]:
        """Return the header that says who we are; secrets are read anew at each call."""
        if self.api_key is not None:
            return {"Authorization": f"ApiKey {self.api_key.reveal()}"}
        if self.bearer_token is not None:
            return {"Authorization": f"Bearer {self.bearer_token.reveal()}"}
        if self.username is not None and self.password is not None:
            return {"Authorization": basic(self.username, self.password.reveal())}
        return {}


def cloud_url(cloud_id: str) -> str:
    """Return the URL in an Elastic Cloud id: ``name:base64(host[:port]$id$...)``.

    Raises ``ValueError`` for anything else.
    """
    try:
        host, identity = (
            b64decode(cloud_id.rpartition(":")[2], validate=True).decode().split("$")[:2]
        )
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise ValueError("is no cloud id; copy it from the deployment's page") from error
    if not host or not identity:
        raise ValueError("is no cloud id; copy it from the deployment's page")
    name, _, port = host.partition(":")
    return f"https://{identity}.{name}:{port or 443}"
