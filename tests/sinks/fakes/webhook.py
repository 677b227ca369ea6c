"""A receiver of posts that knows its sender by a token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import orjson
from aiohttp import web

from forwarder.testing.fake_server import FakeServer, body_of


class FakeWebhook(FakeServer):
    """Takes JSON lines or an array; ``received`` are the requests' headers and bodies as sent."""

    def __init__(self) -> None:
        super().__init__()
        self.token = "wh-secret-token"
        self.status = 200
        self.refused: bytes | None = None
        self.received: list[tuple[Mapping[str, str], bytes]] = []
        self.events: list[str] = []

    def arrived(self) -> Mapping[str, int]:
        return Counter(self.events)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.locked or request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        if request.method == "GET":
            return web.Response(text="healthy")
        body = await body_of(request)
        if self.refused and self.refused in body:
            return web.Response(status=422)
        self.received.append((request.headers.copy(), await request.read()))
        if self.status < 300:
            found = orjson.loads(body if body[:1] == b"[" else b"[" + _joined(body) + b"]")
            self.events += [event["id"] for event in found]
        return web.Response(status=self.status)


def _joined(lines: bytes) -> bytes:
    return b",".join(lines.splitlines())
