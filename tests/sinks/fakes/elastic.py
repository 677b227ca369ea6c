"""A cluster of one node as Elasticsearch and OpenSearch behave, as far as bulk requests go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import orjson
from aiohttp import web

from forwarder.testing.fake_server import FakeServer, body_of

_TEMPLATE = {
    "name": "logs-cloudflare_access",
    "index_template": {
        "index_patterns": ["logs-cloudflare_access.*-*"],
        "priority": 200,
        "data_stream": {},
    },
}


class FakeElastic(FakeServer):
    """One node that demands an API key.

    A document with a field ``clash`` does not fit the mapping. ``failure_store`` takes those in,
    as Elasticsearch does from 9.2 on for ``logs-*``. ``busy`` holds ids that are put off once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.api_key = "aWQ6c2VjcmV0LWtleQ=="
        self.may_look = True
        self.templates: list[dict[str, Any]] = [_TEMPLATE]
        self.failure_store = False
        self.largest = 100_000_000
        self.busy: set[str] = set()
        self.blocked: str | None = None
        self.indices: dict[str, list[dict[str, dict[str, Any]]]] = {}
        self.failures: dict[str, dict[str, Any]] = {}
        self.headers: list[Mapping[str, str]] = []

    def rollover(self, name: str) -> None:
        """Begin a new backing index: ids are unique within one only."""
        self.indices[name].append({})

    def documents(self, name: str) -> list[dict[str, Any]]:
        """Return what a search over all backing indices finds."""
        return [doc for index in self.indices.get(name, []) for doc in index.values()]

    def arrived(self) -> Mapping[str, int]:
        return Counter(
            identity for backing in self.indices.values() for index in backing for identity in index
        )

    def delivers(self, request: web.Request) -> bool:
        return request.path == "/_bulk"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"ApiKey {self.api_key}" or self.locked:
            return refusal(401, "security_exception", "missing authentication credentials")
        if request.path == "/_bulk":
            return await self._bulk(request)
        if not self.may_look:
            return refusal(403, "security_exception", "action is unauthorized")
        return await self._look(request)

    async def _look(self, request: web.Request) -> web.StreamResponse:
        head, _, name = request.path.strip("/").partition("/")
        if not head:
            return web.json_response({"version": {"number": "9.2.0"}, "tagline": "You Know"})
        if head == "_index_template":
            return web.json_response({"index_templates": self.templates})
        if head == "_data_stream" and name in self.indices:
            return web.json_response({"data_streams": [{"name": name}]})
        if head == "_security":
            wanted = (await request.json())["index"][0]
            held = {name: dict.fromkeys(wanted["privileges"], True) for name in wanted["names"]}
            return web.json_response({"has_all_requested": True, "index": held})
        return refusal(404, "index_not_found_exception", f"no such index [{name}]")

    async def _bulk(self, request: web.Request) -> web.StreamResponse:
        body = await body_of(request)
        if len(body) > self.largest:
            return web.Response(status=413)
        if not body.endswith(b"\n"):
            return refusal(400, "illegal_argument_exception", "must be terminated by a newline")
        self.headers.append(request.headers.copy())
        lines = body.splitlines()
        items = [self._item(*pair) for pair in zip(lines[::2], lines[1::2], strict=True)]
        failed = any("error" in item for item in items)
        return web.json_response(
            {"took": 3, "errors": failed, "items": [{"create": item} for item in items]}
        )

    def _item(self, action: bytes, source: bytes) -> dict[str, Any]:
        meta, document = orjson.loads(action)["create"], orjson.loads(source)
        name, identity = meta["_index"], meta["_id"]
        if self.blocked:
            return error_item(name, identity, 403, self.blocked, "index [x] blocked")
        if identity in self.busy:
            self.busy.discard(identity)
            return error_item(name, identity, 429, "es_rejected_execution_exception", "queue full")
        if "@timestamp" not in document and self._is_stream(name):
            reason = "data stream timestamp field [@timestamp] is missing"
            return error_item(name, identity, 400, "illegal_argument_exception", reason)
        if "clash" in document:
            return self._misfit(name, identity, document)
        index = self.indices.setdefault(name, [{}])[-1]
        if identity in index:
            kind = "version_conflict_engine_exception"
            return error_item(name, identity, 409, kind, f"[{identity}]: document already exists")
        index[identity] = document
        return {"_index": self._backing(name), "_id": identity, "status": 201, "result": "created"}

    def _misfit(self, name: str, identity: str, document: dict[str, Any]) -> dict[str, Any]:
        if self.failure_store:
            self.failures[identity] = document
            index = f".fs-{name}-2026.01.01-000001"
            return {"_index": index, "status": 201, "failure_store": "used", "result": "created"}
        reason = (
            f"[1:20] failed to parse field [clash] of type [ip] in document with id '{identity}'. "
            f"Preview of field's value: '{document['clash']}'"
        )
        return error_item(name, identity, 400, "document_parsing_exception", reason)

    def _is_stream(self, name: str) -> bool:
        patterns: Sequence[str] = [
            pattern
            for template in self.templates
            for pattern in template["index_template"]["index_patterns"]
        ]
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    def _backing(self, name: str) -> str:
        return f".ds-{name}-{len(self.indices[name]):06}" if self._is_stream(name) else name


def error_item(name: str, identity: str, status: int, kind: str, reason: str) -> dict[str, Any]:
    error = {"type": kind, "reason": reason, "index": name}
    return {"_index": name, "_id": identity, "status": status, "error": error}


def refusal(status: int, kind: str, reason: str) -> web.Response:
    error = {"type": kind, "reason": reason}
    return web.json_response({"error": error, "status": status}, status=status)
