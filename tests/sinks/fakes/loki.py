"""A Loki that refuses late and long lines, wrong labels and a wrong tenant, as a real one does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from forwarder.core.timing import format_us
from forwarder.testing.fake_server import FakeServer, body_of

Line = tuple[int, str]


class FakeLoki(FakeServer):
    """One tenant with one token.

    ``window_us`` is how far a line may be behind the newest of its stream, ``oldest_us`` the time
    before which nothing is taken. Valid lines of a push are kept although it is answered with 400;
    a line that is there already is dropped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.token = "l0ki-token"
        self.tenant = "team-a"
        self.window_us = 3_600_000_000
        self.oldest_us = 0
        self.longest = 262_144
        self.most_labels = 15
        self.blocked = False
        self.streams: dict[str, dict[Line, None]] = {}
        self.headers: list[Mapping[str, str]] = []
        self._newest: dict[str, int] = {}

    def delivers(self, request: web.Request) -> bool:
        """A push of nothing is a probe; it is never compressed."""
        return "Content-Encoding" in request.headers

    def arrived(self) -> Mapping[str, int]:
        lines = [line for stream in self.streams.values() for _, line in stream]
        return Counter(orjson.loads(line)["id"] for line in lines)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.locked or request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401, text="no org id")
        if request.headers.get("X-Scope-OrgID") != self.tenant:
            return web.Response(status=401, text="no org id")
        if request.path != "/loki/api/v1/push":
            return web.Response(status=404)
        if self.blocked:
            return web.Response(status=260, text="ingestion blocked")
        self.headers.append(request.headers.copy())
        streams = orjson.loads(await body_of(request))["streams"]
        if not streams:
            return web.Response(status=422, text="error at least one valid stream is required")
        faults = [fault for stream in streams for fault in self._take(stream)]
        return (
            web.Response(status=400, text="\n".join(faults)) if faults else web.Response(status=204)
        )

    def _take(self, stream: dict[str, Any]) -> list[str]:
        name = _written(stream["stream"])
        if not stream["stream"]:
            return ["error at least one label pair is required per stream"]
        if len(stream["stream"]) > self.most_labels:
            return [f"entry for stream '{name}' has 3 label names; limit {self.most_labels}"]
        if any(not isinstance(time, str) for time, _ in stream["values"]):
            return ["loghttp.PushRequest.Streams: unmarshalerDecoder: Value looks like Number"]
        faults = (self._take_line(name, int(time) // 1000, line) for time, line in stream["values"])
        return [fault for fault in faults if fault]

    def _take_line(self, name: str, time_us: int, line: str) -> str:
        kept = self.streams.setdefault(name, {})
        if len(line) > self.longest:
            return f"Max entry size '{self.longest}' bytes exceeded for stream '{name}'"
        if time_us < self.oldest_us:
            return (
                f"entry for stream '{name}' has timestamp too old: {format_us(time_us)}, "
                f"oldest acceptable timestamp is: {format_us(self.oldest_us)}"
            )
        newest = self._newest[name] = max(self._newest.get(name, time_us), time_us)
        if time_us < newest - self.window_us:
            return (
                f"entry with timestamp {format_us(time_us)} ignored, reason: 'entry too far "
                f"behind, entry timestamp is: {format_us(time_us)}, oldest acceptable timestamp "
                f"is: {format_us(newest - self.window_us)}',\n"
                f"user 'team-a', total ignored: 1 out of 3 for stream: {name}"
            )
        kept[time_us, line] = None
        return ""


def _written(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{key}="{labels[key]}"' for key in sorted(labels)) + "}"
