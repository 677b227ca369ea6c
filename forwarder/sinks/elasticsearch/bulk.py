"""What is sent to a cluster and what its answers mean: pure functions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import orjson

from forwarder.core.contracts import (
    FORWARDER_STREAM,
    BatchEvent,
    Rejection,
    SinkContext,
    WriteResult,
)
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.identity import dumps
from forwarder.core.timing import format_us

# The parts of an answer that are read; the others would be most of its bytes.
FILTER = (
    "filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,"
    "items.*.error.caused_by.type,items.*.error.caused_by.reason,items.*.failure_store"
)

_LONGEST_KIND = 100
_CONFLICT = "version_conflict_engine_exception"
# Error types of an item that every other event would get too, so that a person must fix them.
_OPERATOR = {
    "security_exception": "give the user or key create_doc and auto_configure on this data stream",
    "authorization_exception": "give the user write permission on this data stream",
    "index_not_found_exception": "create the data stream, or allow creating it automatically",
    "cluster_block_exception": "the cluster refuses writes: its disks may be full",
    "index_closed_exception": "open the index again",
    "invalid_index_name_exception": "check dataset, namespace and index in the settings",
    "validation_exception": "the cluster may have reached its limit of shards",
}

_FIELD = re.compile(r"failed to parse field \[([^\]\n]{1,200})\] of type \[(\w{1,40})\]")
_NAME = r"\[[^\]\n]{1,200}\]"
# The server's own text quotes values of the event, which must not reach a log. These parts of it
# hold names and limits only.
_SAFE_REASONS = re.compile(
    "|".join(
        (
            rf"pipeline with id {_NAME} does not exist",
            rf"Limit of [a-z ]{{1,40}} {_NAME} has been exceeded",
            rf"allowed limit of {_NAME}",
            rf"data stream timestamp field {_NAME} is missing",
            rf"object mapping for {_NAME} tried to parse field {_NAME} as object",
            rf"mapper {_NAME} cannot be changed from type {_NAME} to {_NAME}",
            rf"dynamic introduction of {_NAME} within {_NAME} is not allowed",
            r"immense term in field=\"[^\"\n]{1,200}\"",
            r"field name cannot (?:be an empty string|contain only whitespace)",
            r"only write ops with an op_type of create are allowed in data streams",
            rf"no write index is defined for alias {_NAME}",
            rf"cluster currently has {_NAME}/{_NAME} maximum [a-z ]{{0,20}}shards open",
            rf"blocked by: {_NAME}",
            rf"granted by the (?:index|cluster) privileges {_NAME}",
            rf"no such index {_NAME}",
        )
    )
)

LOGS: Mapping[str, str] = {
    "access_requests": "audit",
    "scim_updates": "scim",
    FORWARDER_STREAM: "forwarder",
}
"""The name of each stream within the name of its data stream; other streams have their own."""

# Elasticsearch's limit for the name of an index. Compiling a longer pattern would only take time.
_LONGEST_NAME = 255


def target_name(template: str, stream: str, account: str) -> str:
    """Return the name to write to for one stream of one account, in lower case."""
    name = template.replace("{log}", LOGS.get(stream, stream))
    return name.replace("{stream}", stream).replace("{account}", account).lower()


class Bulk:
    """Builds bulk bodies: ``create`` with the event's id, so that a repeat is a conflict."""

    def __init__(self, template: str, context: SinkContext) -> None:
        """Take the template of the name to write to."""
        self._template = template
        self._text = context.media_type != "application/json"
        self._timed = context.format == "ecs"
        self._targets: dict[tuple[str, str], bytes] = {}

    def encode(self, events: Sequence[BatchEvent]) -> bytes:
        """Return the body for ``_bulk``: two lines an event, the action and the document."""
        parts: list[bytes] = []
        for event in events:
            key = (event.stream, event.account)
            head = self._targets.get(key) or self._head(key)
            body = event.body if self._timed else self._with_time(event)
            parts.append(b'%b%b"}}\n%b\n' % (head, event.id.encode(), body))
        return b"".join(parts)

    def _head(self, key: tuple[str, str]) -> bytes:
        name = orjson.dumps(target_name(self._template, *key))
        head = self._targets[key] = b'{"create":{"_index":%b,"_id":"' % name
        return head

    def _with_time(self, event: BatchEvent) -> bytes:
        """Return the body with the ``@timestamp`` that a data stream demands."""
        if self._text:
            text = event.body.decode("utf-8", "replace")
            return dumps({"@timestamp": format_us(event.time_us), "message": text})
        # The text may also stand deeper inside, so what looks like a time of its own is parsed.
        if b'"@timestamp"' in event.body and "@timestamp" in orjson.loads(event.body):
            return event.body
        rest = event.body[1:]
        comma = b"" if rest.lstrip()[:1] == b"}" else b","
        return b'{"@timestamp":"%b"%b%b' % (format_us(event.time_us).encode(), comma, rest)


def judge(answer: bytes, offsets: Sequence[int], where: str) -> WriteResult:
    """Return what became of each event of a bulk request that was answered with 200.

    Raises ``TransientError`` for anything but a bulk answer, ``NeedsOperatorError`` if nothing was
    taken and an error is one that every event of its data stream would get.
    """
    try:
        said = orjson.loads(answer)
        items = [next(iter(item.values())) for item in said["items"]]
        if (
            said["errors"] is False
            and b'"failure_store"' not in answer
            and len(items) == len(offsets)
        ):
            return WriteResult()
        return _sort(items, offsets, where)
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration) as error:
        raise TransientError(
            f"{where} answered 200 with something that is not a bulk answer",
            hint="check the URL; a log-in page or a load balancer may answer in its place",
        ) from error


def _sort(items: Sequence[Any], offsets: Sequence[int], where: str) -> WriteResult:
    rejected: list[Rejection] = []
    deferred: set[int] = set()
    fault: NeedsOperatorError | None = None
    for item, offset in zip(items, offsets, strict=True):
        status, error = _status(item["status"]), item.get("error") or {}
        kind = str(error.get("type", "unknown error"))[:_LONGEST_KIND]
        # A conflict means that an event with this id is there: it was taken before.
        if status < 300 or (status == 409 and kind == _CONFLICT):  # noqa: PLR2004
            continue
        if kind in _OPERATOR or status in (401, 403, 404):
            hint = _OPERATOR.get(kind, "check permissions and the data stream")
            said = f"{where} refuses events: {_reason(kind, error)}"
            fault = fault or NeedsOperatorError(said, hint=hint)
            deferred.add(offset)
        elif status == 429 or status == 409 or status >= 500:  # noqa: PLR1714, PLR2004
            deferred.add(offset)
        else:
            rejected.append(Rejection(offset, _reason(kind, error)))
    # As long as something was taken, that is used: one data stream that refuses everything must
    # not let the events of the others be sent again and again. Its own come back alone.
    if fault is not None and len(rejected) + len(deferred) == len(offsets):
        raise fault
    return WriteResult(tuple(rejected), frozenset(deferred), notes=_notes(items))


def _status(value: Any) -> int:
    """Return the status of an item; raises ``ValueError`` if it is not an HTTP status."""
    if type(value) is not int or not 200 <= value < 600:  # noqa: PLR2004 - the statuses of HTTP
        raise ValueError("an item has no status of HTTP")
    return value


def _reason(kind: str, error: Any) -> str:
    """Return error type and the part of the reason that holds no value of the event."""
    cause = section(error, "caused_by")
    text = f"{error.get('reason', '')}\n{cause.get('reason', '')}"
    if field := _FIELD.search(text):
        return f"{kind}: field {field[1]} is no {field[2]}"
    if safe := _SAFE_REASONS.search(text):
        return f"{kind}: {safe[0]}"
    return f"{kind}: {str(cause['type'])[:_LONGEST_KIND]}" if cause.get("type") else kind


def error_text(answer: bytes) -> str:
    """Return type and reason of a request that failed whole, or an empty text."""
    error = section(as_object(answer), "error")
    kind = str(error.get("type", ""))[:_LONGEST_KIND]
    return _reason(kind, error) if kind else ""


def _notes(items: Sequence[Any]) -> Sequence[str]:
    """Return a note about the events that the cluster put into its failure store."""
    used = Counter(item.get("failure_store") for item in items)["used"]
    if not used:
        return ()
    return (f"failure_store: {used} events did not fit the mapping and are in the failure store",)


def makes_data_stream(answer: bytes, name: str) -> bool:
    """Return True if the index template that governs ``name`` makes data streams.

    ``answer`` is the body of ``GET /_index_template``. Raises ``TransientError`` for anything else.
    """
    try:
        entries = as_object(answer).get("index_templates", ())
        templates: list[dict[str, Any]] = [entry.get("index_template", {}) for entry in entries]
        matching = [template for template in templates if _governs(template, name)]
        chosen = max(matching, key=lambda template: template.get("priority") or 0, default=None)
    except (TypeError, AttributeError) as error:
        raise TransientError(
            "the request for index templates was answered with something else",
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
