"""A Splunk HTTP Event Collector as live ones were seen to behave."""

from __future__ import annotations

import json
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from forwarder.testing.fake_server import FakeServer, body_of

KEYS = frozenset({"time", "host", "source", "sourcetype", "index", "event", "fields"})
_TEXTS = {
    0: (200, "Success"),
    1: (403, "Token disabled"),
    2: (401, "Token is required"),
    3: (401, "Invalid authorization"),
    4: (403, "Invalid token"),
    5: (400, "No data"),
    6: (400, "Invalid data format"),
    7: (400, "Incorrect index"),
    9: (503, "Server is busy"),
    10: (400, "Data channel is missing"),
    12: (400, "Event field is required"),
    13: (400, "Event field cannot be blank"),
    14: (400, "ACK is disabled"),
    15: (400, "Error in handling indexed fields"),
    17: (200, "HEC is healthy"),
    18: (503, "HEC is unhealthy, queues are full"),
    24: (200, "HEC queue is approaching its capacity limit"),
    25: (200, "HEC ACK is approaching its capacity limit"),
    28: (400, "Data channel is missing. If you have multiple indexers, use sticky sessions."),
}
_CLOUD_LIMIT = 5_242_881
_EVENT = ("/services/collector", "/services/collector/event", "/services/collector/event/1.0")
_RAW = ("/services/collector/raw", "/services/collector/raw/1.0")
_DECODER = json.JSONDecoder()


@dataclass
class Channel:
    """Acknowledgements of one channel: ids from 0, each with the time it becomes true."""

    given: int = 0
    due: dict[int, float] = field(default_factory=dict)


class FakeHec(FakeServer):
    """One collector with one token.

    ``acks`` gives the token indexer acknowledgement, ``ack_delay`` seconds late; ``cloud`` makes
    it Splunk Cloud (another limit, another code for a missing channel).
    """

    def __init__(self, *, acks: bool = False, ack_delay: float = 0.0, cloud: bool = False) -> None:
        super().__init__()
        self.token = "0f8b5ab2-hec-token"
        self.acks = acks
        self.ack_delay = ack_delay
        self.cloud = cloud
        self.indexes: frozenset[str] | None = None
        self.code = 0
        self.indexed: list[dict[str, Any]] = []
        self.lines: list[tuple[dict[str, str], bytes]] = []
        self.channels: dict[str, Channel] = {}
        self.ack_requests = 0
        self.bodies: list[bytes] = []
        self.headers: list[Mapping[str, str]] = []
        self.keep_bodies = True

    async def restart(self) -> None:
        """Come back with an empty memory of acknowledgements."""
        self.channels.clear()
        await self.kill()
        await self.start()

    def arrived(self) -> Mapping[str, int]:
        found = [orjson.loads(line)["id"] for _, line in self.lines]
        return Counter([_identity(event["event"]) for event in self.indexed] + found)

    def delivers(self, request: web.Request) -> bool:
        return request.method == "POST" and request.path in _EVENT + _RAW

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return web.Response(headers={"Allow": "POST,OPTIONS"})
        if request.path in ("/services/collector/health", "/services/collector/health/1.0"):
            return say(18 if self.code == 18 else 17)
        if not request.path.startswith("/services/collector"):
            return say_not_found()
        fault = self._unauthorised(request)
        if fault:
            return say(fault)
        if request.path == "/services/collector/ack":
            return await self._acknowledge(request)
        return await self._take(request)

    def _unauthorised(self, request: web.Request) -> int:
        given = request.headers.get("Authorization")
        if not given:
            return 2
        scheme, _, token = given.partition(" ")
        if scheme != "Splunk":
            return 3
        if token != self.token:
            return 4
        return 1 if self.locked else 0

    async def _take(self, request: web.Request) -> web.StreamResponse:
        encoding = request.headers.get("Content-Encoding")
        if encoding == "deflate":
            return web.Response(status=415, text="<html>no</html>", content_type="text/html")
        channel = request.headers.get("X-Splunk-Request-Channel") or request.query.get("channel")
        if self.acks and not channel:
            return say(28 if self.cloud else 10)
        try:
            body = await body_of(request)
        except (OSError, EOFError, zlib.error):
            return say(6)
        self.headers.append(request.headers.copy())
        if self.keep_bodies:
            self.bodies.append(body)
        if self.cloud and len(body) > _CLOUD_LIMIT:
            return say(6, {"invalid-event-number": 0})
        if request.path in _RAW:
            return self._take_lines(request, body, channel)
        return self._take_events(body, channel)

    def _take_lines(
        self, request: web.Request, body: bytes, channel: str | None
    ) -> web.StreamResponse:
        lines = [line for line in body.split(b"\n") if line]
        if not lines:
            return say(5)
        self.lines += [(dict(request.query), line) for line in lines]
        return say(self.code, self._ack_id(channel))

    def _take_events(self, body: bytes, channel: str | None) -> web.StreamResponse:
        """Index object by object up to the first that is wrong."""
        found = list(_objects(body))
        for index, item in enumerate(found):
            if item is not None and not item.keys() <= KEYS:
                return say(5) if len(found) == 1 else say(self.code, self._ack_id(channel))
            code = 6 if item is None else self._wrong(item)
            if code:
                more = {"invalid-event-number": index + (code == 7)}
                return say(code, more | (self._ack_id(channel) if index else {}))
            if item is not None and "event" in item:
                self.indexed.append(item)
        return say(self.code, self._ack_id(channel)) if found else say(5)

    def _wrong(self, found: dict[str, Any]) -> int:
        """Return the code for an object that is wrong, 0 for a good one or one without event."""
        if "event" not in found:
            return 0 if "fields" in found else 12
        if found["event"] in ("", None) or str(found["event"]).isspace():
            return 13
        if any(isinstance(value, dict) for value in found.get("fields", {}).values()):
            return 15
        if self.indexes is not None and found.get("index", "main") not in self.indexes:
            return 7
        return 0

    def _ack_id(self, name: str | None) -> dict[str, int]:
        if not self.acks or name is None:
            return {}
        channel = self.channels.setdefault(name, Channel())
        ack_id, channel.given = channel.given, channel.given + 1
        channel.due[ack_id] = time.monotonic() + self.ack_delay
        return {"ackId": ack_id}

    async def _acknowledge(self, request: web.Request) -> web.StreamResponse:
        self.ack_requests += 1
        name = request.headers.get("X-Splunk-Request-Channel") or request.query.get("channel")
        if not self.acks:
            return say(14)
        if not name:
            return say(28 if self.cloud else 10)
        due = self.channels.get(name, Channel()).due
        now, acks = time.monotonic(), {}
        for ack_id in orjson.loads(await request.read())["acks"]:
            acks[str(ack_id)] = ack_id in due and now >= due[ack_id]
            if acks[str(ack_id)]:
                del due[ack_id]
        return web.json_response({"acks": acks})


def say(code: int, more: Mapping[str, int] | None = None) -> web.Response:
    """Return the collector's answer for a code."""
    status, text = _TEXTS[code]
    return web.json_response({"text": text, "code": code, **(more or {})}, status=status)


def say_not_found() -> web.Response:
    said = {"text": "The requested URL was not found on this server.", "code": 404}
    return web.json_response(said, status=404)


def _objects(body: bytes) -> Iterator[dict[str, Any] | None]:
    """Yield the concatenated JSON objects of a body, and None where it is not a JSON object."""
    for line in filter(None, body.split(b"\n")):
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError:
            yield from _several(line.decode("utf-8", "replace"))


def _several(text: str) -> Iterator[dict[str, Any] | None]:
    """Yield what one line holds one after another."""
    position = 0
    while position < len(text):
        try:
            found, position = _DECODER.raw_decode(text, position)
        except ValueError:
            yield None
            return
        yield found


def _identity(event: Any) -> str:
    found = event if isinstance(event, dict) else orjson.loads(event)
    return str(found.get("id", found))
