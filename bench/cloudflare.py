"""An API that serves prebuilt rows as fast as it can: ``python -m bench.cloudflare ROWS``.

It answers the daemon's own questions and no others: windows by ``since``, pages of 1000.
"""

from __future__ import annotations

import asyncio
import sys
import time
from bisect import bisect_left

from aiohttp import web

from bench.rows import rows
from forwarder.core.timestamps import parse_us

_PAGE = 1000
_HEAD = b'{"success":true,"errors":[],"messages":[],"result":['
_TAIL = b'],"result_info":{"count":%d,"page":1,"per_page":1000,"total_count":0}}'


class Cloudflare:
    """Rows in order of time; quiet accounts see none of them."""

    def __init__(self, count: int, trickle: float) -> None:
        """Build ``count`` rows of the past; ``trickle`` more appear every second from now on."""
        self._began = time.time()
        self._trickle = trickle
        built = list(rows(count, int(self._began * 1e6)))
        self._seconds = [second for second, _ in built]
        self._texts = [text for _, text in built]
        self.requests = 0

    def app(self) -> web.Application:
        """Return the routes."""
        app = web.Application()
        base = "/client/v4/accounts/{account}"
        app.router.add_get(f"{base}/access/logs/access_requests", self._logins)
        app.router.add_get(f"{base}/tokens/verify", self._verify)
        app.router.add_get("/requests", self._count)
        return app

    async def _logins(self, request: web.Request) -> web.Response:
        self.requests += 1
        query = request.query
        quiet = not request.match_info["account"].endswith("c353")
        start = len(self._texts) if quiet else self._start(query["since"])
        offset = (int(query.get("page", "1")) - 1) * _PAGE
        self._grow()
        texts = self._texts[start + offset : start + offset + _PAGE]
        body = _HEAD + b",".join(texts) + _TAIL % len(texts)
        return web.Response(body=body, content_type="application/json")

    def _start(self, since: str) -> int:
        return bisect_left(self._seconds, (parse_us(since) or 0) // 1_000_000)

    def _grow(self) -> None:
        """Let rows of the present appear; each tells in its ray when it did, in microseconds."""
        now = time.time()
        due = int((now - self._began) * self._trickle)
        for _, text in rows(due, int(now * 1e6)) if due else ():
            stamp = b'"ray_id":"%016x"' % time.time_ns()
            self._seconds.append(int(now))
            self._texts.append(text.replace(text[text.rindex(b'"ray_id"') : -1], stamp))
        if due:
            self._began = now

    async def _verify(self, _: web.Request) -> web.Response:
        return web.json_response({"success": True, "result": {"status": "active"}})

    async def _count(self, _: web.Request) -> web.Response:
        return web.json_response(self.requests)


async def serve(count: int, trickle: float) -> None:
    """Serve on a free port and print it."""
    runner = web.AppRunner(Cloudflare(count, trickle).app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))  # noqa: PLR2004
