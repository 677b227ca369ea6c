"""An API that serves prebuilt rows as fast as it can: ``python -m bench.cloudflare ROWS``.

It answers the daemon's own questions and no others: ``since``, ``page``, a thousand rows each.
"""

from __future__ import annotations

import asyncio
import sys
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle, groupby
from typing import Protocol

from aiohttp import web

from bench.rows import ROWS_A_SECOND, changes, rows
from forwarder.core.timing import format_seconds, parse_us

_PAGE = 1000
_BLOCK, _CHANGES = 200_000, 20_000
"""Logins, and changes, that are made: these are four times as large."""
_TIME = slice(len('{"created_at":"'), len('{"created_at":"2026-01-01T00:00:00Z'))
_MARK = b"@" * 20
_HEAD = b'{"success":true,"errors":[],"messages":[],"result":['
_TAIL = b'],"result_info":{"count":%d,"page":1,"per_page":1000,"total_count":0}}'


class Rows(Protocol):
    """What the API can show."""

    def page(self, since: int, skip: int) -> tuple[bytes, int]:
        """Return rows as JSON with commas between, and how many, from a second on."""
        ...


class History:
    """``count`` rows that end now, oldest first.

    The same rows come again after ``block``, with other times: ten million need no more memory.
    """

    def __init__(
        self,
        count: int,
        until_us: int,
        make: Callable[[int, int], Iterator[tuple[int, bytes]]] = rows,
        block: int = _BLOCK,
    ) -> None:
        """Build them; ``until_us`` is now in microseconds since 1970."""
        self._seconds = count // ROWS_A_SECOND
        self._first = until_us // 1_000_000 - self._seconds
        made = make(min(count, block), until_us)
        self._groups = [
            b",".join(text for _, text in group).replace(
                format_seconds(second * 1_000_000).encode(), _MARK
            )
            for second, group in groupby(made, key=lambda row: row[0])
        ]

    def page(self, since: int, skip: int) -> tuple[bytes, int]:
        """Return at most a thousand rows; ``skip`` and the answer are whole seconds of rows."""
        begin = max(0, since - self._first) + skip // ROWS_A_SECOND
        end = max(begin, min(begin + _PAGE // ROWS_A_SECOND, self._seconds))
        groups = self._groups
        texts = [
            groups[second % len(groups)].replace(
                _MARK, format_seconds((self._first + second) * 1_000_000).encode()
            )
            for second in range(begin, end)
        ]
        return b",".join(texts), (end - begin) * ROWS_A_SECOND


class Trickle:
    """So many rows a second from now on; each tells in its ray when it came to be."""

    def __init__(self, rows_a_second: float) -> None:
        """Begin with none."""
        self._began = time.time()
        self._pace = rows_a_second
        self._made = cycle(text for _, text in list(rows(_PAGE, int(self._began * 1e6))))
        self._seconds: list[int] = []
        self._texts: list[bytes] = []

    def page(self, since: int, skip: int) -> tuple[bytes, int]:
        """Return what has come by now."""
        for index in range(len(self._texts), int((time.time() - self._began) * self._pace)):
            self._append(self._began + index / self._pace)
        start = bisect_left(self._seconds, since) + skip
        texts = self._texts[start : start + _PAGE]
        return b",".join(texts), len(texts)

    def _append(self, now: float) -> None:
        text = next(self._made)
        shown = format_seconds(int(now) * 1_000_000).encode()
        rest = text[_TIME.stop : text.rindex(b'"ray_id"')]
        stamp = b'"ray_id":"%016x"}' % int(now * 1e9)
        self._seconds.append(int(now))
        self._texts.append(text[: _TIME.start] + shown + rest + stamp)


def envelope(rows: bytes, count: int) -> bytes:
    """Return an answer with these rows, ``count`` of them."""
    return _HEAD + rows + _TAIL % count


def app(logins: Rows, changed: Rows) -> web.Application:
    """Return the routes; only the account of the measurements has rows, all others are quiet."""

    def showing(shown: Rows) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def show(request: web.Request) -> web.Response:
            query, text, count = request.query, b"", 0
            if request.match_info["account"].endswith("c353"):
                since = (parse_us(query["since"]) or 0) // 1_000_000
                text, count = shown.page(since, (int(query.get("page", "1")) - 1) * _PAGE)
            return web.Response(body=envelope(text, count), content_type="application/json")

        return show

    async def verify(_: web.Request) -> web.Response:
        return web.json_response({"success": True, "result": {"status": "active"}})

    made = web.Application()
    base = "/client/v4/accounts/{account}"
    made.router.add_get(f"{base}/access/logs/access_requests", showing(logins))
    made.router.add_get(f"{base}/access/logs/scim/updates", showing(changed))
    made.router.add_get(f"{base}/tokens/verify", verify)
    return made


async def serve(logins: Rows, changed: Rows) -> None:
    """Serve on a free port and print it."""
    runner = web.AppRunner(app(logins, changed), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    word, now_us = sys.argv[1], int(time.time() * 1e6)
    if word.endswith("/s"):
        uvloop.run(serve(Trickle(float(word.removesuffix("/s"))), History(0, now_us)))
    else:
        found = History(int(word), now_us), History(int(word), now_us, changes, _CHANGES)
        uvloop.run(serve(*found))
