"""Settings of the Elasticsearch sink, and which index an event goes to.

The settings of the Elasticsearch and OpenSearch sink.

Into which data stream or index an event goes, and whether a template makes that one right.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import orjson
from pydantic import Field, field_validator, model_validator

from forwarder.core.contracts import FORWARDER_STREAM
from forwarder.core.errors import TransientError
from forwarder.transport.http import basic
from forwarder.transport.settings import HttpSettings, Secret

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


LOGS: Mapping[str, str] = {
    "access_requests": "audit",
    "scim_updates": "scim",
    FORWARDER_STREAM: "forwarder",
}
"""How each stream is called in the name of its data stream."""

_LONGEST_NAME = 255
"""Of an index, by Elasticsearch's rules; a longer pattern is not worth the time to compile it."""


def target_template(config: ElasticsearchConfig) -> str:
    """Return the name to write to, with its placeholders."""
    return config.index or f"logs-{config.dataset}-{config.namespace}"


def target(template: str, stream: str, account: str) -> str:
    """Return the name to write to for one stream of one account; names are always lower case."""
    name = template.replace("{log}", LOGS.get(stream, stream))
    return name.replace("{stream}", stream).replace("{account}", account).lower()


def known_targets(config: ElasticsearchConfig) -> Sequence[str]:
    """Return the data streams that will be written to, as far as the settings alone tell."""
    template = target_template(config)
    if config.index or "{account}" in template:
        return ()
    return [target(template, stream, "") for stream in LOGS]


def makes_data_stream(answer: bytes, name: str) -> bool:
    """Say whether the index template that governs ``name`` makes data streams.

    ``answer`` is the body that ``GET /_index_template`` returned. Raises ``TransientError`` for
    one that is none.
    """
    try:
        entries = as_object(answer).get("index_templates", ())
        templates: list[dict[str, Any]] = [entry.get("index_template", {}) for entry in entries]
        matching = [template for template in templates if _governs(template, name)]
        chosen = max(matching, key=lambda template: template.get("priority") or 0, default=None)
    except (TypeError, AttributeError) as error:
        raise TransientError(
            "the question for index templates was answered with something else",
            hint="check the URL; a log-in page or a load balancer may answer in its place",
        ) from error
    return chosen is not None and "data_stream" in chosen


def as_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object in ``text``, or an empty one when it holds something else."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def section(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object under ``key``, or an empty one when there is something else."""
    inner = found.get(key)
    return inner if isinstance(inner, dict) else {}


def _governs(template: dict[str, Any], name: str) -> bool:
    patterns = template.get("index_patterns", ())
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    return any(len(pattern) <= _LONGEST_NAME and fnmatchcase(name, pattern) for pattern in patterns)
