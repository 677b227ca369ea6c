"""The sinks for OpenTelemetry and Sentinel: killed, with tokens that change, and one that hangs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from aiohttp import web
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from tests.end_to_end.processes import until
from tests.proof.books import Book
from tests.proof.killable import POINTS
from tests.proof.ledger import Ledger
from tests.proof.site import Books, missing, quick, site
from tests.proof.test_crashes import RANDOM, one_life
from tests.sinks.fakes.otlp import FakeOtlp
from tests.sinks.fakes.sentinel import FakeSentinel

pytestmark = [pytest.mark.proof, pytest.mark.timeout(900)]

KILLS = 50


class OtlpBook(FakeOtlp):
    """A receiver that remembers which rows it has, and rejects one record in 61 for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.rejected: set[str] = set()

    def _is_refused(self, record: LogRecord) -> bool:
        row = orjson.loads(record.body.string_value)
        told = row["_forwarder"]
        if told["stream"] != "forwarder" and int(told["id"][:8], 16) % 61 == 0:
            self.rejected.add(told["id"])
            return True
        self.book.note(row)
        return False


class SentinelBook(FakeSentinel):
    """A rule that remembers which rows it has; its application's secret can be changed."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()

    def _take(self, stream: str, body: bytes) -> web.StreamResponse:
        assert stream in self.declared
        for row in orjson.loads(body):
            self.book.note(row)
        return web.Response(status=204)


def settings(otlp: OtlpBook, token: Path, sentinel: SentinelBook) -> dict[str, Any]:
    return {
        "otlp": quick({"type": "otlp", "format": "raw", "url": otlp.url,
                       "bearer_token_file": str(token)}),
        "sentinel": quick({"type": "sentinel", "format": "raw", **sentinel.settings}),
    }  # fmt: skip


def moments() -> Iterator[str]:
    """Yield where to kill: named points in turn, and every fifth time at random."""
    named = cycle(one for one in POINTS if not one.startswith(("prune", "journal", "dead letter")))
    for number in range(KILLS):
        yield RANDOM if number % 5 == 4 else next(named)


async def test_no_row_is_lost_though_processes_are_killed_and_tokens_change(
    tmp_path: Path, ledger: Ledger
) -> None:
    """Both get new tokens every ten kills: one out of a file, one from the token server."""
    rng, where, token = Random(50), Counter[str](), tmp_path / "token"
    async with OtlpBook() as otlp, SentinelBook() as sentinel:
        token.write_text(otlp.token)
        books: Books = {"otlp": lambda: otlp.book, "sentinel": lambda: sentinel.book}
        refused = {"otlp": lambda: otlp.rejected}
        flow = ("--rate", "25", "--scim-rate", "3", "--history", "10m")
        async with site(tmp_path, settings(otlp, token, sentinel), *flow) as daemon:
            for number, point in enumerate(moments()):
                if number % 10 == 5:
                    otlp.token = f"0tlp-token-{number}"
                    token.write_text(otlp.token)
                    sentinel.revoke()
                where[await one_life(daemon, None, point, rng)] += 1
            await daemon.start()
            await daemon.running()
            shown, seconds = await daemon.settled(books, 120, refused)
            assert await daemon.stop() == 0
            dead = (await daemon.dead_letters())["otlp"]
            left = missing(shown, books, {"otlp": lambda: dead})

            assert left == {"otlp": 0, "sentinel": 0}
            # What was rejected last may still be looked for by halving: it waits in the journal.
            assert dead
            assert dead <= otlp.rejected
            ledger.row(
                "Crashes",
                f"SIGKILL at {len(where)} points, otlp and sentinel, tokens changed",
                times=KILLS,
                events=shown.total(),
                lost=sum(left.values()),
                again={name: book().again for name, book in books.items()},
                recovery=seconds,
                more=f"{len(dead)} dead letters",
            )


async def test_a_receiver_that_hangs_delays_no_other(tmp_path: Path) -> None:
    token = tmp_path / "token"
    async with OtlpBook() as otlp, SentinelBook() as sentinel:
        token.write_text(otlp.token)
        flow = ("--rate", "25", "--history", "10m")
        async with site(tmp_path, settings(otlp, token, sentinel), *flow) as daemon:
            await daemon.start()
            await daemon.running()
            await asyncio.wait_for(otlp.delivered(1), 60)
            await otlp.hang()
            await until(lambda: len(sentinel.book.rows) > 10_000, 60)
            books: Books = {"sentinel": lambda: sentinel.book}
            _, seconds = await daemon.settled(books, 60)
            began, books = time.monotonic(), {**books, "otlp": lambda: otlp.book}
            await otlp.come_back()
            await daemon.settled(books, 90, {"otlp": lambda: otlp.rejected})
            caught_up = time.monotonic() - began

    print(f"beside a receiver that hangs: all there after {seconds:.1f} s; it, {caught_up:.1f} s")  # noqa: T201
    assert seconds < 30
