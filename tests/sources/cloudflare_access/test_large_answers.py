"""Answers of any size are read: in smaller pages, in bounded memory, and beside everything else."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import orjson
import pytest
from aiohttp import web

from forwarder.core.contracts import Page, Window
from forwarder.core.schema import MALFORMED_KEY
from forwarder.core.timing import SystemClock, format_us, parse_us
from forwarder.simulator import DEFAULT_ACCOUNT, DEFAULT_TOKEN
from forwarder.sources.cloudflare_access.account import (
    AccessRequestsConfig,
    AccountConfig,
    ScimUpdatesConfig,
)
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.logs import AccessRequests
from forwarder.sources.cloudflare_access.rate_limit import RateLimiter
from forwarder.sources.cloudflare_access.scim.updates import ScimUpdates
from forwarder.testing.source_contract import identities

SECOND_US = 1_000_000
START_US = 1_790_000_000 * SECOND_US
Make = Callable[[int], bytes]


class Log:
    """Rows a second apart, each made when it is shown; counts what is requested."""

    def __init__(self, rows: int, make: Make) -> None:
        self.rows = rows
        self._make = make
        self.sizes: list[int] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        size, page = int(query["per_page"]), int(query["page"])
        self.sizes.append(size)
        since_us, until_us = parse_us(query["since"]) or 0, parse_us(query["until"]) or 0
        shown = [
            number
            for number in range(self.rows)
            if since_us <= START_US + number * SECOND_US <= until_us
        ][(page - 1) * size : page * size]
        body = b",".join(map(self._make, shown))
        return web.Response(body=b'{"success":true,"result":[' + body + b"]}")


@asynccontextmanager
async def serving(log: Log) -> AsyncIterator[tuple[Api, AccountConfig]]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", log.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    config = AccountConfig.model_validate(
        {"account_id": DEFAULT_ACCOUNT, "api_token": DEFAULT_TOKEN, "api_url": url}
    )
    clock = SystemClock()
    api = Api(config, RateLimiter(clock), clock, environ={})
    try:
        yield api, config
    finally:
        await api.aclose()
        await runner.cleanup()


class Turns:
    """The longest turn of the loop in CPU seconds of its thread, while it is entered."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.02)
        self._task.cancel()

    async def _watch(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0.01)
            now = time.thread_time()
            self.longest, before = max(self.longest, now - before), now


async def read(source: AccessRequests, window: Window) -> list[Page]:
    position, pages = None, list[Page]()
    while not pages or position is not None:
        pages.append(await source.fetch(window, position))
        position = orjson.loads(orjson.dumps(pages[-1].position))
    return pages


def filled(filling: bytes) -> Make:
    def make(number: int) -> bytes:
        moment = format_us(START_US + number * SECOND_US).encode()
        return b'{"ray_id":"%016x","created_at":"%s","filling":%s}' % (number, moment, filling)

    return make


def one_with_nan(make: Make) -> Make:
    return lambda number: (
        make(number).replace(b'"filling":', b'"nan":NaN,"filling":')
        if (number == 3)
        else make(number)
    )


DENSE = b"[" + b",".join([b"[]"] * 19_000) + b"]"


@pytest.mark.parametrize(
    ("make", "most_at_once"),
    [
        (filled(b'"%s"' % (b"x" * 68_000)), 8 * 2**20 // 68_000),
        (one_with_nan(filled(DENSE)), 1_000_000 // 38_000),
        (one_with_nan(filled(b'"' + rb"\u00e9\"" * 10_000 + b'"')), 8 * 2**20 // 80_000),
    ],
    ids=["large rows", "dense rows", "escaped rows"],
)
async def test_a_page_that_is_too_large_is_read_in_smaller_ones(
    make: Make, most_at_once: int
) -> None:
    """Up to 68 MB in one answer, if 1,000 rows were given at once."""
    log, window = Log(1000, make), Window(START_US, START_US + 1000 * SECOND_US)
    async with serving(log) as (api, config), Turns() as turns:
        source = AccessRequests(api, config, AccessRequestsConfig())
        first = await source.fetch(window, None)
        second = await source.fetch(window, first.position)

    assert most_at_once / 2 <= len(first.records) <= most_at_once
    assert len(identities([first, second])) > len(first.records)
    assert log.sizes[0] == 1000
    assert log.sizes[-1] == log.sizes[-2], "it is remembered what fits"
    assert turns.longest < 1.0


async def test_no_row_is_lost_while_pages_shrink_and_grow() -> None:
    """Small rows, then large ones, then small ones again."""

    def make(number: int) -> bytes:
        return filled(b'"%s"' % (b"x" * (800_000 if 600 <= number < 660 else 10)))(number)

    log, window = Log(4000, make), Window(START_US, START_US + 4000 * SECOND_US)
    async with serving(log) as (api, config):
        source = AccessRequests(api, config, AccessRequestsConfig(page_size=100))
        pages = await read(source, window)

    assert len(identities(pages)) == 4000
    assert min(log.sizes) < 50
    assert log.sizes[-1] == 100


async def test_pages_shrink_among_rows_of_one_second_too() -> None:
    """There page numbers count, and they count in the size of a page."""

    def make(number: int) -> bytes:
        large = b"x" * (800_000 if 130 <= number < 190 else 10)
        return b'{"ray_id":"%016x","created_at":"%s","filling":"%s"}' % (
            number,
            format_us(START_US).encode(),
            large,
        )

    class OneSecond(Log):
        async def answer(self, request: web.Request) -> web.StreamResponse:
            size, page = int(request.query["per_page"]), int(request.query["page"])
            self.sizes.append(size)
            shown = range(self.rows)[(page - 1) * size : page * size]
            body = b",".join(map(make, shown))
            return web.Response(body=b'{"success":true,"result":[' + body + b"]}")

    log = OneSecond(400, make)
    async with serving(log) as (api, config):
        source = AccessRequests(api, config, AccessRequestsConfig(page_size=100))
        pages = await read(source, Window(START_US, START_US + SECOND_US))

    assert len(identities(pages)) == 400
    assert not [lost for page in pages for lost in page.lost]


async def test_a_single_row_of_too_many_values_is_kept_as_text() -> None:
    log = Log(1, filled(b"[" + b",".join([b"[]"] * 700_000) + b"]"))
    async with serving(log) as (api, config), Turns() as turns:
        source = AccessRequests(api, config, AccessRequestsConfig(page_size=1))
        page = await source.fetch(Window(START_US, START_US + SECOND_US), None)

    (row,) = map(orjson.loads, [record.row for record in page.records])
    assert "too many values" in row[MALFORMED_KEY]
    assert row["filling"].startswith("[[],[],")
    assert row["ray_id"] == f"{0:016x}"
    assert turns.longest < 1.0


async def test_large_bodies_of_changes_are_masked_beside_everything_else() -> None:
    members = [{"value": f"{number:036x}", "display": "password"} for number in range(640)]
    body = orjson.dumps({"Operations": [{"op": "add", "path": "members", "value": members}]})

    def make(number: int) -> bytes:
        row: dict[str, Any] = {
            "logged_at": format_us(START_US + number * SECOND_US),
            "idp_id": "okta",
            "cf_resource_id": f"{number}",
            "request_body": body.decode(),
        }
        return orjson.dumps(row)

    log, window = Log(200, make), Window(START_US, START_US + 200 * SECOND_US)
    async with serving(log) as (api, config), Turns() as turns:
        source = ScimUpdates(api, config, ScimUpdatesConfig(), SystemClock())
        page = await source.fetch(window, None, parts=["okta"])

    assert 100 <= len(page.records) <= 200
    assert turns.longest < 1.0
