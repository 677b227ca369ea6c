"""Bulk requests and what their answers mean for each event: pure functions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from forwarder.core.contracts import BatchEvent, Rejection, SinkContext, WriteResult
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.timing import format_us
from forwarder.sinks.elasticsearch.config import target

FILTER = (
    "filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,"
    "items.*.error.caused_by.type,items.*.failure_store"
)
"""What of an answer is worth its bytes."""

_LONGEST_KIND = 100
_CONFLICT = "version_conflict_engine_exception"
_OPERATOR = {
    "security_exception": "give the user or key create_doc and auto_configure on this data stream",
    "authorization_exception": "give the user write permission on this data stream",
    "index_not_found_exception": "create the data stream, or allow creating it automatically",
    "cluster_block_exception": "the cluster refuses writes: its disks may be full",
    "index_closed_exception": "open the index again",
    "invalid_index_name_exception": "check dataset, namespace and index in the settings",
    "validation_exception": "the cluster may have reached its limit of shards",
}
"""Types of errors of an item that no other event would escape: a person must mend them."""

_FIELD = re.compile(r"failed to parse field \[([^\]\n]{1,200})\] of type \[(\w{1,40})\]")


class Bulk:
    """Builds bulk bodies: ``create`` with the event's id, so that a repeat is a conflict."""

    def __init__(self, template: str, context: SinkContext) -> None:
        """Take the name to write to and what the events' bodies are."""
        self._template = template
        self._text = context.media_type != "application/json"
        self._timed = context.format == "ecs"
        self._targets: dict[tuple[str, str], bytes] = {}

    def encode(self, events: Sequence[BatchEvent]) -> bytes:
        """Return the body for ``_bulk``, a line for the action and a line for the event each."""
        parts: list[bytes] = []
        for event in events:
            key = (event.stream, event.account)
            head = self._targets.get(key) or self._head(key)
            body = event.body if self._timed else self._with_time(event)
            parts.append(b'%b%b"}}\n%b\n' % (head, event.id.encode(), body))
        return b"".join(parts)

    def _head(self, key: tuple[str, str]) -> bytes:
        name = orjson.dumps(target(self._template, *key))
        head = self._targets[key] = b'{"create":{"_index":%b,"_id":"' % name
        return head

    def _with_time(self, event: BatchEvent) -> bytes:
        """Return the body with the ``@timestamp`` that a data stream demands."""
        if self._text:
            text = event.body.decode("utf-8", "replace")
            return orjson.dumps({"@timestamp": format_us(event.time_us), "message": text})
        if b'"@timestamp"' in event.body and "@timestamp" in orjson.loads(event.body):
            return event.body
        rest = event.body[1:]
        comma = b"" if rest.lstrip()[:1] == b"}" else b","
        return b'{"@timestamp":"%b"%b%b' % (format_us(event.time_us).encode(), comma, rest)


def judge(answer: bytes, offsets: Sequence[int], where: str) -> WriteResult:
    """Return what became of each event of a bulk request that was answered with 200.

    Raises ``TransientError`` for an answer that is none, ``NeedsOperatorError`` for an error that
    every event of its data stream would meet; then all are sent again, and those that were
    taken already are conflicts.
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
            f"{where} answered 200 with something that is no bulk answer",
            hint="check the URL; a log-in page or a load balancer may answer in its place",
        ) from error


def _sort(items: Sequence[Any], offsets: Sequence[int], where: str) -> WriteResult:
    rejected: list[Rejection] = []
    deferred: set[int] = set()
    for item, offset in zip(items, offsets, strict=True):
        status, error = _status(item["status"]), item.get("error") or {}
        kind = str(error.get("type", "unknown error"))[:_LONGEST_KIND]
        if status < 300 or (status == 409 and kind == _CONFLICT):  # noqa: PLR2004
            continue
        if kind in _OPERATOR or status in (401, 403, 404):
            raise NeedsOperatorError(
                f"{where} refuses events: {kind}",
                hint=_OPERATOR.get(kind, "check permissions and the data stream"),
            )
        if status == 429 or status == 409 or status >= 500:  # noqa: PLR1714, PLR2004
            deferred.add(offset)
        else:
            rejected.append(Rejection(offset, _reason(kind, error)))
    return WriteResult(tuple(rejected), frozenset(deferred), notes=_notes(items))


def _status(value: Any) -> int:
    """Return an item's status; raises ``ValueError`` for what is none, which means no success."""
    if type(value) is not int or not 200 <= value < 600:  # noqa: PLR2004 - the statuses of HTTP
        raise ValueError("an item has no status of HTTP")
    return value


def _reason(kind: str, error: Any) -> str:
    """Name the fault and the field, and leave out the value that a server quotes."""
    field = _FIELD.search(str(error.get("reason", "")))
    if field:
        return f"{kind}: field {field[1]} is no {field[2]}"
    cause = (error.get("caused_by") or {}).get("type")
    return f"{kind}: {str(cause)[:_LONGEST_KIND]}" if cause else kind


def _notes(items: Sequence[Any]) -> Sequence[str]:
    """Say how many events the cluster put aside: searchable nowhere unless somebody looks."""
    used = Counter(item.get("failure_store") for item in items)["used"]
    if not used:
        return ()
    return (f"failure_store: {used} events did not fit the mapping and are in the failure store",)
