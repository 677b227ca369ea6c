"""A Cloudflare with plain rows and collectors of every temper, in a process of their own.

``python -m tests.proof.figures_server HISTORY SPEED`` prints its port. Fifty rows share a second of
its clock, which starts ``HISTORY`` seconds after the first row and runs ``SPEED`` times as fast as
real time: so many rows can come to life without more than fifty in one second.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from email.utils import formatdate

import uvloop
from aiohttp import ClientConnectionResetError, web

from forwarder.core.timing import format_seconds, parse_us

ROWS_A_SECOND = 50
_PAGE = 1000
_MICRO = 1_000_000
_RECEIVED = re.compile(rb'"received_at":"([^"]+)"')
_ANSWER = '{"success":true,"errors":[],"messages":[],"result":[%s],"result_info":{"per_page":1000}}'
_ROW = (
    '{"action":"login","allowed":%s,"app_domain":"app%d.example.com/admin",'
    '"app_uid":"f1d2d2f9-24e9-86ac-86fd-%012d","connection":"okta","country":"DE",'
    '"created_at":"%s","ip_address":"203.0.113.%d","ray_id":"%016x",'
    '"user_email":"user%d@example.com","user_id":"adc83b19-e793-491b-b1c6-%012d"}'
)


class Cloudflare:
    """Rows by number: the n-th was created ``n / 50`` seconds after the first."""

    def __init__(self, history: int, speed: float) -> None:
        self._began, self._speed = time.time(), speed
        self._now_at_start = self._began - (0 if speed == 1 else 12 * 3600)
        self._first = int(self._now_at_start) - history
        self._shown = 0
        self.firsts: list[tuple[int, int]] = []
        self.arrivals: list[tuple[int, str]] = []

    def now(self) -> float:
        """Return seconds since 1970 by this server's clock."""
        return self._now_at_start + (time.time() - self._began) * self._speed

    async def logins(self, request: web.Request) -> web.StreamResponse:
        """Answer with a page, and note when its last byte was sent if it shows new rows."""
        query = request.query
        self.arrivals.append((time.monotonic_ns(), query["until"]))
        visible = int((self.now() - self._first) * ROWS_A_SECOND)
        first = max(0, -(-self._number(query["since"]) // _MICRO))
        last = min(visible, self._number(query["until"]) // _MICRO + ROWS_A_SECOND)
        first += (int(query.get("page", "1")) - 1) * _PAGE
        end = min(last, first + _PAGE)
        text = _ANSWER % ",".join(self._row(number) for number in range(first, end))
        response = web.Response(text=text, content_type="application/json", headers=self._date())
        with suppress(ClientConnectionResetError):  # a daemon that was stopped meanwhile
            await response.prepare(request)
            await response.write_eof()
        if end > self._shown:
            self._shown = end
            self.firsts.append((end, time.monotonic_ns()))
        return response

    async def verify(self, _: web.Request) -> web.Response:
        """Let every token pass."""
        content = {"success": True, "result": {"status": "active"}}
        return web.json_response(content, headers=self._date())

    async def seen(self, _: web.Request) -> web.Response:
        """Tell when rows (all below a number) were first shown, and when which window was asked."""
        return web.json_response({"firsts": self.firsts, "arrivals": self.arrivals})

    def _date(self) -> Mapping[str, str]:
        return {"Date": formatdate(self.now(), usegmt=True)}

    def _number(self, moment: str) -> int:
        """Return the number of the row at a moment, in millionths."""
        return ((parse_us(moment) or 0) - self._first * _MICRO) * ROWS_A_SECOND

    def _row(self, number: int) -> str:
        second = format_seconds((self._first + number // ROWS_A_SECOND) * _MICRO)
        user = number * 7919 % 4000
        allowed = "true" if number % 20 else "false"
        places = (number % 120, number % 120, second, number % 250, number, user, user)
        return _ROW % (allowed, *places)


class Collectors:
    """HEC that takes everything and notes ages, or never answers; a cluster that refuses all."""

    def __init__(self) -> None:
        self.ages: Counter[float] = Counter()

    async def healthy(self, request: web.Request) -> web.Response:
        """Take a batch; an event's age runs from its arrival in the forwarder."""
        if request.path.endswith("/ack"):
            return web.json_response({"text": "ACK is disabled", "code": 14}, status=400)
        if request.method != "POST":
            return web.json_response({"text": "HEC is healthy", "code": 17})
        body, now_us = await request.read(), time.time() * _MICRO
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for moment, count in Counter(_RECEIVED.findall(body)).items():
            received_us = parse_us(moment.decode()) or 0
            self.ages[round((now_us - received_us) / _MICRO, 3)] += count
        return web.json_response({"text": "Success", "code": 0})

    async def hanging(self, request: web.Request) -> web.Response:
        """Look healthy and never answer a batch."""
        if request.method == "POST" and not request.path.endswith("/ack"):
            await asyncio.Event().wait()
        return await self.healthy(request)

    async def refusing(self, request: web.Request) -> web.Response:
        """Refuse every document for a reason of its own."""
        if request.method != "POST":
            return web.json_response({"version": {"number": "9.2.0"}, "tagline": "a fake"})
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        error = {"type": "document_parsing_exception", "reason": "does not fit"}
        item = {"create": {"_index": "access", "status": 400, "error": error}}
        items = [item] * body.count(b'{"create"')
        return web.json_response({"took": 1, "errors": True, "items": items})

    async def told(self, _: web.Request) -> web.Response:
        """Tell the ages (seconds, events) since the last question."""
        ages, self.ages = self.ages, Counter()
        return web.json_response(sorted(ages.items()))


def app(history: int, speed: float) -> web.Application:
    """Return all routes."""
    cloudflare, collectors = Cloudflare(history, speed), Collectors()
    made = web.Application(client_max_size=1 << 30)
    base = "/client/v4/accounts/{account}"
    made.router.add_get(f"{base}/access/logs/access_requests", cloudflare.logins)
    made.router.add_get(f"{base}/tokens/verify", cloudflare.verify)
    made.router.add_get("/seen", cloudflare.seen)
    made.router.add_get("/ages", collectors.told)
    for name in ("healthy", "hanging", "refusing"):
        made.router.add_route("*", f"/{name}{{path:.*}}", getattr(collectors, name))
    return made


async def serve(history: int, speed: float) -> None:
    """Serve on a free port and print it."""
    runner = web.AppRunner(app(history, speed), access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)  # noqa: T201 - the port is what its starter reads
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2])))
