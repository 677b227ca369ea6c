"""OpenTelemetry: events as log records over OTLP/HTTP, in protobuf.

The messages that are needed have a dozen fields, so they are written here by hand; the tests read
them with OpenTelemetry's own library. An answer may say how many records it rejected, and never
which ones: then the batch counts as refused, and the engine halves it until the event is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from struct import pack
from typing import Any, ClassVar

import orjson
from pydantic import Field, field_validator

from forwarder.core.contracts import (
    ACCEPTED,
    Batch,
    BatchEvent,
    BatchLimits,
    Finding,
    SinkContext,
    WriteResult,
)
from forwarder.core.errors import BatchRefusedError, BatchTooLargeError, TransientError
from forwarder.transport.http import Answer
from forwarder.transport.http_destination import HttpAuth, HttpDestination
from forwarder.transport.settings import clean_url

_PATH = "/v1/logs"
_REFUSED = 400
_HEADERS = {"Content-Type": "application/x-protobuf"}
_WARNED = WriteResult(notes=("otlp_warning: the receiver took the records and sent a warning",))
_SEVERITIES = {"success": (9, b"INFO"), "failure": (13, b"WARN"), "unknown": (9, b"INFO")}
_LATEST_NS = 2**64 - 1
_ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    "ecs": {
        "client.address": "client.ip",
        "geo.country.iso_code": "client.geo.country_iso_code",
        "url.full": "url.full",
        "user.id": "user.id",
    },
    "ocsf": {
        "client.address": "src_endpoint.ip",
        "geo.country.iso_code": "src_endpoint.location.country",
        "url.full": "http_request.url.url_string",
        "user.id": "user.uid",
    },
    "raw": {
        "client.address": "ip_address",
        "geo.country.iso_code": "country",
        "url.domain": "app_domain",
        "user.id": "user_id",
    },
}
"""Names of the semantic conventions, and where each format has their values."""


class OtlpConfig(HttpAuth):
    """Where the receiver is, and what describes the records."""

    resource: dict[str, str] = Field(
        {"service.name": "cloudflare-access"}, description="attributes of the resource"
    )
    attributes: dict[str, str] = Field(
        {}, description="more attributes out of a JSON event, each NAME: dotted.path"
    )

    @field_validator("url", "urls")
    @classmethod
    def _without_path_of_logs(cls, value: Any) -> Any:
        """Accept the whole address too, as most vendors print it."""
        if isinstance(value, tuple):
            return tuple(url.removesuffix(_PATH) for url in value)
        return clean_url(value.removesuffix(_PATH)) if value else value


class OtlpSink:
    """Posts each batch as one export request."""

    Config: ClassVar[type[OtlpConfig]] = OtlpConfig
    default_format: ClassVar[str] = "ecs"
    summary: ClassVar[str] = "OpenTelemetry collectors and backends, OTLP over HTTP"

    def __init__(self, config: OtlpConfig, context: SinkContext) -> None:
        """Prepare everything that needs no connection."""
        self._config = config
        self._http = HttpDestination(config, context)
        self._records = Records(config, context)

    @property
    def limits(self) -> BatchLimits:
        """Return the engine's defaults: half of what the strictest vendor takes."""
        return BatchLimits(write_timeout=self._config.response_timeout * 2)

    async def open(self) -> None:
        """Export nothing to at least one address: that proves path and log-in."""
        await self._http.probe(self._probe)

    async def write(self, batch: Batch) -> WriteResult:
        """Return when the receiver has taken every record."""
        packed = await self._http.packed(self._records.encode(batch.events))
        with self._http.attempt() as url:
            answer = await self._http.send("POST", f"{url}{_PATH}", packed, _HEADERS)
            return self._judge(answer)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def diagnose(self) -> Sequence[Finding]:
        """Export nothing to every address, and say what is wrong."""
        return await self._http.diagnosis(self._probe, "takes log records from us")

    async def _probe(self, url: str) -> None:
        # A request without records is valid, and empty in protobuf.
        self._judge(await self._http.ask("POST", f"{url}{_PATH}", _HEADERS, b""))

    def _judge(self, answer: Answer) -> WriteResult:
        # The collector has no 413: what is larger than it takes is a bad request to it.
        if answer.status == _REFUSED and b"too large" in answer.body:
            raise BatchTooLargeError(f"{answer.where} answered 400: the request is too large")
        self._http.check(answer)
        try:
            rejected, warned = partial_success(answer.body)
        except (ValueError, TypeError, AttributeError) as error:
            # Such as a log-in page with status 200.
            said = f"{answer.where} answered {answer.status} and did not say what it took"
            raise TransientError(said, hint="check that the URL is an OTLP receiver's") from error
        if rejected:
            raise BatchRefusedError(f"{answer.where} rejected {rejected} records")
        return _WARNED if warned else ACCEPTED


class Records:
    """Builds export requests: ``ExportLogsServiceRequest`` of opentelemetry-proto."""

    def __init__(self, config: OtlpConfig, context: SinkContext) -> None:
        """Take what describes the records; the format decides where attributes are found."""
        known = {**_ATTRIBUTES.get(context.format, {}), **config.attributes}
        json = context.media_type == "application/json"
        self._paths = [(name, path.split(".")) for name, path in known.items()] if json else []
        self._resource = config.resource
        version = context.user_agent.rpartition("/")[2]
        self._scope = _field(1, _field(1, b"forwarder") + _field(2, version.encode()))
        self._constants: dict[tuple[str, str], bytes] = {}

    def encode(self, events: Sequence[BatchEvent]) -> bytes:
        """Return the request; the records of one account share a resource."""
        accounts: dict[str, list[bytes]] = {}
        for event in events:
            accounts.setdefault(event.account, []).append(_field(2, self._record(event)))
        return b"".join(
            _field(1, self._described(account) + _field(2, self._scope + b"".join(records)))
            for account, records in accounts.items()
        )

    def _described(self, account: str) -> bytes:
        attributes = {"cloudflare.account": account} | self._resource
        return _field(1, b"".join(_field(1, _pair(*item)) for item in attributes.items()))

    def _record(self, event: BatchEvent) -> bytes:
        body = event.body
        # A reader of protobuf refuses the whole request for a text that is not UTF-8.
        text = body if body.isascii() else body.decode("utf-8", "replace").encode()
        key = (event.stream, event.outcome)
        return b"".join(
            (
                b"\x09",
                _nanoseconds(event.time_us),
                self._constants.get(key) or self._constant(*key),
                _field(5, _field(1, text)),
                _UID + event.id.encode(),
                *(_attribute(*item) for item in self._attributes(event)),
                b"\x59",
                _nanoseconds(event.seen_us),
            )
        )

    def _constant(self, stream: str, outcome: str) -> bytes:
        """Return what all records of a stream with one outcome share."""
        number, text = _SEVERITIES[outcome]
        name = f"cloudflare.{stream}"
        # Receivers older than 2025 look for the name among the attributes.
        attributes = {"event.name": name, "event.outcome": outcome}
        constant = self._constants[stream, outcome] = b"".join(
            (
                b"\x10" + _varint(number),
                _field(3, text),
                *(_attribute(*item) for item in attributes.items()),
                _field(12, name.encode()),
            )
        )
        return constant

    def _attributes(self, event: BatchEvent) -> Iterator[tuple[str, str]]:
        if event.user:
            yield "user.name", event.user
        parsed = orjson.loads(event.body) if self._paths else None
        for name, path in self._paths:
            found = _at(parsed, path)
            if found not in (None, ""):
                yield name, found if isinstance(found, str) else orjson.dumps(found).decode()


def _at(value: Any, path: Sequence[str]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def partial_success(body: bytes) -> tuple[int, bool]:
    """Return how many records an answer rejects, and whether it says anything else.

    Some backends answer a request in protobuf in JSON. Raises ``ValueError``, ``TypeError`` or
    ``AttributeError`` for what is neither.
    """
    if body.lstrip().startswith(b"{"):
        said = orjson.loads(body).get("partialSuccess") or {}
        return int(said.get("rejectedLogRecords", 0)), bool(said.get("errorMessage"))
    inside = b"".join(value for number, value in _read(body) if number == 1)
    found = dict(_read(inside))
    return int(found.get(1, 0)), bool(found.get(2))


def _nanoseconds(time_us: int) -> bytes:
    return pack("<Q", min(max(time_us * 1000, 0), _LATEST_NS))


def _pair(name: str, text: str) -> bytes:
    """Return a ``KeyValue`` with a text."""
    return _field(1, name.encode()) + _field(2, _field(1, text.encode("utf-8", "replace")))


# Users, addresses and applications come again and again.
@lru_cache(4096)
def _attribute(name: str, text: str) -> bytes:
    """Return an attribute of a record."""
    return _field(6, _pair(name, text))


def _field(number: int, content: bytes) -> bytes:
    """Return a field that holds a text or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Return a number in groups of seven bits, the lowest first."""
    if number < 0x80:  # noqa: PLR2004 - seven bits
        return b"%c" % number
    return b"%c" % (number & 0x7F | 0x80) + _varint(number >> 7)


# All ids have 32 digits. Records with one uid are the same record: duplicates are found by it.
_UID = _field(6, _pair("log.record.uid", "0" * 32))[:-32]


def _read(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and content of each field; raises ``ValueError`` for anything else."""
    at = 0
    while at < len(message):
        tag, at = _varint_at(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint_at(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:  # noqa: PLR2004 - what has a length
            size, at = _varint_at(message, at)
        else:
            size = {1: 8, 5: 4}.get(kind, len(message))
        if at + size > len(message):
            raise ValueError("no protobuf")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint_at(message: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at ``at``, and where it ends."""
    number = shift = 0
    while at < len(message):
        byte = message[at]
        number, shift, at = number | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:  # noqa: PLR2004 - the last group
            return number, at
    raise ValueError("no protobuf")
