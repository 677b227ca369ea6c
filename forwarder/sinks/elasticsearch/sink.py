"""The Elasticsearch and OpenSearch sink: settings, writing, and what ``check --live`` looks at."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson
from pydantic import Field, field_validator, model_validator

from forwarder.core.contracts import Batch, BatchLimits, Finding, SinkContext, WriteResult
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.elasticsearch.bulk import (
    FILTER,
    LOGS,
    Bulk,
    as_object,
    error_text,
    judge,
    makes_data_stream,
    section,
    target_name,
)
from forwarder.transport.http import Answer
from forwarder.transport.http_destination import (
    HttpAuth,
    HttpDestination,
    status_error,
)
from forwarder.transport.settings import Secret, origin

_LARGEST_ANSWER = 32 * 2**20
_NOT_IN_NAMES = frozenset('\\/*?"<>| ,#:-')
_OK, _FORBIDDEN, _NOT_FOUND = 200, 403, 404
_NOT_ENCODED = "is id:key; write its base64, which Elasticsearch calls encoded"
_WANTED = ("create_doc", "auto_configure")


class ElasticsearchConfig(HttpAuth):
    """Where the cluster is, how we log in, and which data streams take what.

    ``dataset``, ``namespace`` and ``index`` may hold ``{log}`` (audit, scim, or the stream),
    ``{stream}`` and ``{account}``.
    """

    LOGINS: ClassVar[Sequence[str]] = ("api_key", *HttpAuth.LOGINS)

    cloud_id: str | None = Field(None, description="Elastic Cloud's id, instead of url")
    api_key: Secret | None = Field(None, description="API key as base64 of id:key, or its file")
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

    @field_validator("api_key")
    @classmethod
    def _is_encoded(cls, value: Secret | None) -> Secret | None:
        if value is not None and value.path is None and ":" in value.reveal():
            raise ValueError(_NOT_ENCODED)
        return value

    @field_validator("dataset", "namespace")
    @classmethod
    def _fits_into_a_name(cls, value: str) -> str:
        if not value or len(value) > 100 or value != value.lower() or set(value) & _NOT_IN_NAMES:  # noqa: PLR2004 - Elasticsearch's limit
            raise ValueError('must be lower case, at most 100 long, without - and \\/*?"<>| ,#:')
        return value

    @model_validator(mode="after")
    def _one_way_to_name_it(self) -> ElasticsearchConfig:
        if self.cloud_id and (self.url or self.url_file or self.urls):
            raise ValueError("give either cloud_id or url")
        return self

    def _needs_url(self) -> bool:
        return self.cloud_id is None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the nodes in order of preference."""
        return (cloud_url(self.cloud_id),) if self.cloud_id else super().addresses

    def authorization(self) -> dict[str, str]:
        """Return the headers that log in; changed secret files are read again."""
        if self.api_key is not None:
            key = self.api_key.reveal()
            if ":" in key:
                raise NeedsOperatorError(f"the api_key {_NOT_ENCODED}", hint="check api_key_file")
            return super().authorization() | {"Authorization": f"ApiKey {key}"}
        return super().authorization()

    @property
    def target(self) -> str:
        """Return the name to write to, with its placeholders."""
        return self.index or f"logs-{self.dataset}-{self.namespace}"

    @property
    def known_targets(self) -> Sequence[str]:
        """Return the data streams that will be written to, as far as the settings alone tell."""
        if self.index or "{account}" in self.target:
            return ()
        return [target_name(self.target, stream, "") for stream in LOGS]


class ElasticsearchSink:
    """Creates each event under its own id, in the data stream of its log."""

    Config: ClassVar[type[ElasticsearchConfig]] = ElasticsearchConfig
    default_format: ClassVar[str] = "ecs"
    summary: ClassVar[str] = "Elasticsearch or OpenSearch data streams, without duplicates"

    def __init__(self, config: ElasticsearchConfig, context: SinkContext) -> None:
        """Prepare everything that needs no connection."""
        self._config = config
        self._http = HttpDestination(config, context)
        self._bulk = Bulk(config.target, context)

    @property
    def limits(self) -> BatchLimits:
        """Return at most 1,000 events and 4 MB a request, below any server's own limit."""
        return BatchLimits(
            max_bytes=4_000_000, write_timeout=self._config.response_timeout * 2, max_in_flight=4
        )

    async def open(self) -> None:
        """Check that at least one node knows us and that the data streams are or will be right."""
        await self._http.probe(self._greet)
        with self._http.attempt() as url:
            for name in self._config.known_targets:
                await self._expect_data_stream(url, name)

    async def write(self, batch: Batch) -> WriteResult:
        """Send one bulk request and sort the events by what became of each."""
        offsets = [event.offset for event in batch.events]
        body = await self._http.packed(self._bulk.encode(batch.events))
        kind = {"Content-Type": "application/x-ndjson"}
        with self._http.attempt() as url:
            answer = await self._http.send(
                "POST", f"{url}/_bulk?{FILTER}", body, kind, largest=_LARGEST_ANSWER
            )
            self._http.check(answer, error_text(answer.body))
            return judge(answer.body, offsets, answer.where)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def diagnose(self) -> Sequence[Finding]:
        """Return for every node whether it is there, and what the data streams lack."""
        found: list[Finding] = []
        for url in self._http.urls:
            try:
                found += await self._findings(url)
            except TransientError as error:
                found.append(Finding("fault", origin(url), str(error), error.hint))
        return found

    async def _greet(self, url: str) -> None:
        """Ask who is there; a key that may only write is refused an answer, but is known."""
        answer = await self._ask(f"{url}/")
        # 403 comes after authentication: the key is known, and may still write.
        if answer.status != _FORBIDDEN:
            self._http.check(answer, error_text(answer.body))

    async def _expect_data_stream(self, url: str, name: str) -> None:
        """Raise when writing to ``name`` would make a plain index, which nothing rolls over.

        A key that may not look is given the benefit of the doubt.
        """
        if (await self._ask(f"{url}/_data_stream/{name}")).status != _NOT_FOUND:
            return
        answer = await self._ask(f"{url}/_index_template")
        if answer.status == _OK and not makes_data_stream(answer.body, name):
            raise NeedsOperatorError(
                f"{answer.where} has no index template that makes {name} a data stream",
                hint="put the templates of deploy/elastic there, or set index",
            )

    async def _ask(self, url: str, body: Mapping[str, Any] | None = None) -> Answer:
        return await self._http.ask(
            "GET" if body is None else "POST",
            url,
            {"Content-Type": "application/json"},
            None if body is None else orjson.dumps(body),
            largest=_LARGEST_ANSWER,
        )

    async def _findings(self, url: str) -> list[Finding]:
        """Examine one node: who it is, its data streams and templates, and what we may do."""
        found, names = [await self._greeting(url)], self._config.known_targets
        if found[0].level == "fault":
            return found
        found += [await self._data_stream(url, name) for name in names]
        if names:
            found += await self._privileges(url, names)
        return found

    async def _greeting(self, url: str) -> Finding:
        answer, subject = await self._ask(f"{url}/"), origin(url)
        if answer.status == _FORBIDDEN:
            return Finding("ok", subject, "knows us, and does not let us ask for its version")
        error = status_error(answer.status, subject)
        if error is not None:
            return Finding("fault", subject, str(error), getattr(error, "hint", ""))
        version = section(as_object(answer.body), "version")
        name = "OpenSearch" if version.get("distribution") == "opensearch" else "Elasticsearch"
        return Finding("ok", subject, f"{name} {version.get('number', 'of unknown version')}")

    async def _data_stream(self, url: str, name: str) -> Finding:
        answer = await self._ask(f"{url}/_data_stream/{name}")
        if answer.status == _OK:
            return Finding("ok", name, "the data stream is there")
        if answer.status != _NOT_FOUND:
            return Finding("warning", name, f"not allowed to look for it ({answer.status})")
        templates = await self._ask(f"{url}/_index_template")
        if templates.status != _OK:
            text = "not there yet, and not allowed to look for its template"
            return Finding("warning", name, text)
        if makes_data_stream(templates.body, name):
            return Finding("ok", name, "a template will make the data stream with the first event")
        text, hint = (
            "no index template makes it a data stream",
            "put the templates of deploy/elastic there",
        )
        return Finding("fault", name, text, hint)

    async def _privileges(self, url: str, names: Sequence[str]) -> list[Finding]:
        """Ask what we may do, where the cluster can answer that (Elasticsearch with security)."""
        body = {"index": [{"names": list(names), "privileges": list(_WANTED)}]}
        answer = await self._ask(f"{url}/_security/user/_has_privileges", body)
        if answer.status != _OK:
            return []
        held = section(as_object(answer.body), "index")
        missing = [
            f"{privilege} on {name}"
            for name in names
            for privilege in _WANTED
            if not section(held, name).get(privilege)
        ]
        if not missing:
            return [Finding("ok", "privileges", "create_doc and auto_configure are there")]
        text = f"missing: {', '.join(missing)}"
        return [Finding("fault", "privileges", text, "add them to the role")]


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
