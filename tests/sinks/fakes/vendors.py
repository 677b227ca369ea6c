"""Receivers of products that the presets are for; each judges what its vendor documents.

Documented limits are counted in bytes as they arrive, unpacked. ``refused`` is a text in an event
that the product cannot take; those that answer for the whole request keep nothing of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import orjson
from aiohttp import web

from forwarder.testing.fake_server import FakeServer, body_of

KEY = "vend0r-key"


class Vendor(FakeServer):
    """What all have in common; ``taken`` are the events."""

    path: ClassVar[str]
    settings: ClassVar[dict[str, Any]]
    largest: ClassVar[int] = 2**30
    content_type: ClassVar[str] = "application/x-ndjson"
    encoding: ClassVar[str] = "gzip"
    stranger: ClassVar[int] = 401
    secrets = (KEY,)

    def __init__(self) -> None:
        super().__init__()
        self.refused = b""
        self.taken: list[dict[str, Any]] = []

    @property
    def config(self) -> dict[str, Any]:
        """Return the settings of a sink with the preset for this product."""
        return {"url": f"{self.url}{self.path}", **self.settings}

    def arrived(self) -> Mapping[str, int]:
        return Counter(event["id"] for event in self.taken)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.locked or not self.knows(request):
            return web.Response(status=self.stranger)
        # As it was sent: aiohttp would show %20 as a blank.
        if request.raw_path != self.path:
            return web.Response(status=404)
        if request.headers["Content-Type"] != self.content_type:
            return web.Response(status=415)
        if request.headers.get("Content-Encoding", "") != self.encoding:
            return web.Response(status=400)
        body = await body_of(request)
        if len(body) > self.largest:
            return web.Response(status=413)
        return self.take(body)

    def knows(self, request: web.Request) -> bool:
        """Return True if the request has the key."""
        return request.headers.get("Authorization") == f"Bearer {KEY}"

    def take(self, body: bytes) -> web.StreamResponse:
        """Keep the events and answer."""
        raise NotImplementedError


def lines(body: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in body.splitlines()]


class SecOps(Vendor):
    """Refuses a request whole for one line that is not UTF-8, and all that is compressed."""

    path = "/v1/feeds/1:importPushLogs"
    settings: ClassVar = {
        "preset": "google_secops",
        "headers": {"X-goog-api-key": KEY, "X-Webhook-Access-Key": KEY},
    }
    largest = 4_000_000
    content_type = "application/json"
    encoding = ""
    stranger = 403

    def knows(self, request: web.Request) -> bool:
        names = ("X-goog-api-key", "X-Webhook-Access-Key")
        return all(request.headers.get(name) == KEY for name in names)

    def take(self, body: bytes) -> web.StreamResponse:
        if self.refused and self.refused in body:
            return web.Response(status=400)
        self.taken += lines(body)
        return web.json_response({})


class Panther(Vendor):
    path = "/http/source-1"
    settings: ClassVar = {"preset": "panther", "headers": {"X-Panther-Secret": KEY}}
    largest = 1_000_000

    def knows(self, request: web.Request) -> bool:
        return request.headers.get("X-Panther-Secret") == KEY

    def take(self, body: bytes) -> web.StreamResponse:
        self.taken += lines(body)
        return web.Response()


class Datadog(Vendor):
    path = "/api/v2/logs?ddsource=cloudflare_access&service=access"
    settings: ClassVar = {"preset": "datadog", "headers": {"DD-API-KEY": KEY}}
    largest = 5_000_000
    content_type = "application/json"
    stranger = 403

    def knows(self, request: web.Request) -> bool:
        return request.headers.get("DD-API-KEY") == KEY

    def take(self, body: bytes) -> web.StreamResponse:
        events = orjson.loads(body)
        if len(events) > 1000 or (self.refused and self.refused in body):
            return web.Response(status=400)
        self.taken += events
        return web.json_response({}, status=202)


class Sumo(Vendor):
    """The address is the secret."""

    path = f"/receiver/v1/http/{KEY}"
    settings: ClassVar = {"preset": "sumo_logic"}
    largest = 1_000_000

    def knows(self, request: web.Request) -> bool:
        return request.path.endswith(KEY)

    def take(self, body: bytes) -> web.StreamResponse:
        self.taken += lines(body)
        return web.Response()


class Logstash(Vendor):
    """Makes an event of each object of an array, and of lines only the first."""

    path = "/"
    settings: ClassVar = {"preset": "logstash", "username": "logstash", "password": KEY}
    content_type = "application/json"

    def knows(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == "Basic bG9nc3Rhc2g6dmVuZDByLWtleQ=="

    def take(self, body: bytes) -> web.StreamResponse:
        self.taken += orjson.loads(body)
        return web.Response(text="ok")


class ClickHouse(Vendor):
    """Answers a row that it cannot parse as older versions do, with status 500."""

    path = "/?query=INSERT%20INTO%20access%20FORMAT%20JSONEachRow"
    settings: ClassVar = {
        "preset": "clickhouse",
        "headers": {"X-ClickHouse-User": "forwarder", "X-ClickHouse-Key": KEY},
    }

    def __init__(self) -> None:
        super().__init__()
        self.table = "access"

    def knows(self, request: web.Request) -> bool:
        return request.headers.get("X-ClickHouse-Key") == KEY

    def take(self, body: bytes) -> web.StreamResponse:
        if f"INTO%20{self.table}%20" not in self.path:
            return web.Response(status=500, text="Code: 60. DB::Exception: no such table")
        if self.refused and self.refused in body:
            return web.Response(status=500, text="Code: 27. DB::Exception: Cannot parse input")
        self.taken += lines(body)
        return web.Response()


class Axiom(Vendor):
    """Takes a part, and says how many events it has not taken."""

    path = "/v1/datasets/access/ingest?timestamp-field=@timestamp"
    settings: ClassVar = {"preset": "axiom", "bearer_token": KEY}

    def take(self, body: bytes) -> web.StreamResponse:
        sent = body.splitlines()
        good = [line for line in sent if not self.refused or self.refused not in line]
        self.taken += lines(b"\n".join(good))
        return web.json_response({"ingested": len(good), "failed": len(sent) - len(good)})


class LogScale(Vendor):
    """HEC with a bearer token, and nothing else of HEC: no health, no acknowledgement."""

    path = ""
    settings: ClassVar = {"preset": "logscale", "token": KEY}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.locked or not self.knows(request):
            return web.Response(status=401)
        if request.path != "/services/collector/event":
            return web.Response(status=404)
        decoder, text, at = json.JSONDecoder(), (await body_of(request)).decode(), 0
        while at < len(text):
            envelope, end = decoder.raw_decode(text, at)
            self.taken.append(envelope["event"])
            at = end + 1
        return web.json_response({"text": "Success", "code": 0})


class Cribl(LogScale):
    settings: ClassVar = {"preset": "cribl", "token": KEY}

    def knows(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Splunk {KEY}"


VENDORS = (SecOps, Panther, Datadog, Sumo, Logstash, ClickHouse, Axiom, LogScale, Cribl)
