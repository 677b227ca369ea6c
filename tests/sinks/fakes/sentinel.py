"""Azure's ingestion endpoint and Entra's token endpoint, which judge what the real ones judge.

The data collection rule is the template that is shipped. As in Azure, a column that it does not
declare is dropped silently; here the test sees it in ``dropped``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from forwarder.testing.fake_server import FakeServer, body_of

TEMPLATE = Path(__file__).parents[3] / "deploy/sentinel/dcr.json"
STREAMS: dict[str, dict[str, str]] = {
    name: {column["name"]: column["type"] for column in declared["columns"]}
    for name, declared in json.loads(TEMPLATE.read_text())["resources"][0]["properties"][
        "streamDeclarations"
    ].items()
}
"""Column and type of each stream of the template."""
_LARGEST = 1_000_000
_RULE = "dcr-0123456789abcdef"


def fits(kind: str, value: Any) -> bool:
    """Return True if Azure can put ``value`` into a column of this type."""
    match kind:
        case "string":
            return isinstance(value, str)
        case "int":
            return type(value) is int and abs(value) < 2**31
        case "long":
            return type(value) is int and abs(value) < 2**63
        case "datetime":
            return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    return kind == "dynamic"


class FakeSentinel(FakeServer):
    """One rule, one application, and tokens that can be revoked.

    ``refused`` is a text that makes a call a bad request, ``allowed`` whether the application has
    its role on the rule.
    """

    secrets = ("entra-secret", "token-1", "token-2")

    def __init__(self) -> None:
        super().__init__()
        self.allowed = True
        self.refused = b""
        self.tokens = 0
        self.forms: list[dict[str, str]] = []
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in STREAMS}
        self.dropped: Counter[str] = Counter()
        self.misfits: Counter[str] = Counter()
        self.declared = STREAMS

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings of a sink that may write here."""
        return {
            "url": self.url,
            "authority": self.url,
            "rule_id": _RULE,
            "tenant_id": "contoso.example",
            "client_id": "forwarder",
            "client_secret": "entra-secret",
        }

    def delivers(self, request: web.Request) -> bool:
        """A call without rows is a probe; it is never compressed."""
        return "Content-Encoding" in request.headers

    def arrived(self) -> Mapping[str, int]:
        every = [row for rows in self.rows.values() for row in rows]
        return Counter(str(row.get("EventOriginalUid") or row["id"]) for row in every)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/contoso.example/oauth2/v2.0/token":
            return await self._token(request)
        if request.headers.get("Authorization") != f"Bearer token-{self.tokens}":
            return web.Response(status=401)
        if self.locked or not self.allowed:
            return web.json_response({"error": {"code": "OperationFailed"}}, status=403)
        stream = request.path.removeprefix(f"/dataCollectionRules/{_RULE}/streams/")
        if stream not in self.declared or request.query.get("api-version") != "2023-01-01":
            return web.json_response({"error": {"code": "NotFound"}}, status=404)
        body = await body_of(request)
        if max(len(body), request.content_length or 0) > _LARGEST:
            code = {"error": {"code": "ContentLengthLimitExceeded"}}
            return web.json_response(code, status=413)
        return self._take(stream, body)

    async def _token(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append(form)
        wanted = {"client_id": "forwarder", "client_secret": "entra-secret"}
        if not wanted.items() <= form.items() and form.get("client_assertion") != "federated":
            return web.json_response({"error": "invalid_client"}, status=401)
        if form.get("scope") != "https://monitor.azure.com/.default":
            return web.json_response({"error": "invalid_scope"}, status=400)
        self.tokens += 1
        return web.json_response({"access_token": f"token-{self.tokens}", "expires_in": 3599})

    def revoke(self) -> None:
        """Take no token that was given out until now."""
        self.tokens += 1

    def _take(self, stream: str, body: bytes) -> web.StreamResponse:
        try:
            rows = orjson.loads(body)
        except orjson.JSONDecodeError:
            rows = None
        if not isinstance(rows, list) or (self.refused and self.refused in body):
            return web.json_response({"error": {"code": "InvalidRequestBody"}}, status=400)
        for row in rows:
            columns = self.declared[stream]
            self.dropped.update(name for name in row if name not in columns)
            self.misfits.update(
                name for name, value in row.items() if not fits(columns.get(name, ""), value)
            )
        self.rows[stream] += rows
        return web.Response(status=204)
