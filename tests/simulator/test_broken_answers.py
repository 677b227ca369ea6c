"""Faults that replace, silence or harm an answer do so on the wire."""

from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime

import aiohttp
import orjson
import pytest

from forwarder.simulator import (
    ACCESS_REQUESTS,
    Fault,
    Simulator,
)
from tests.simulator.conftest import NOON
from tests.simulator.reader import Reader


@pytest.mark.usefixtures("rows")
class TestAnswersThatAreReplaced:
    async def test_throttled_with_and_without_a_time_to_wait(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        simulator.faults.add(Fault("throttled", retry_after=7), Fault("throttled"))

        told, untold, fine = [await reader.read(ACCESS_REQUESTS) for _ in range(3)]

        assert (told.status, told.code, told.headers["Retry-After"]) == (429, 971, "7")
        assert (untold.status, "Retry-After" in untold.headers) == (429, False)
        assert fine.status == 200

    async def test_a_page_of_html(self, simulator: Simulator, reader: Reader) -> None:
        simulator.faults.add(Fault("html", status=523))

        answer = await reader.read(ACCESS_REQUESTS)

        assert (answer.status, answer.headers["Content-Type"]) == (523, "text/html")
        assert answer.raw.startswith(b"<!DOCTYPE html>")

    async def test_an_error_envelope_a_false_success_and_any_body(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        simulator.faults.add(
            Fault("error", status=500, code=12345, message="access.api.error.internal"),
            Fault("unsuccessful"),
            Fault("body", status=200, body='{"success":true,"result":null}'),
            Fault("redirect", body="http://127.0.0.1:1/elsewhere"),
        )

        error, false, odd, moved = [await reader.read(ACCESS_REQUESTS) for _ in range(4)]

        assert (error.status, error.code) == (500, 12345)
        assert (false.status, false.json["success"]) == (200, False)
        assert odd.json == {"success": True, "result": None}
        assert (moved.status, moved.headers["Location"]) == (302, "http://127.0.0.1:1/elsewhere")

    async def test_half_the_json_in_a_whole_answer(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        simulator.faults.add(Fault("truncated"))

        answer = await reader.read(ACCESS_REQUESTS)

        assert answer.status == 200
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(answer.raw)

    async def test_an_answer_that_ends_half_way(self, simulator: Simulator, reader: Reader) -> None:
        simulator.faults.add(Fault("cut_off"))

        with pytest.raises(aiohttp.ClientPayloadError):
            await reader.read(ACCESS_REQUESTS)

    async def test_a_reset_connection(self, simulator: Simulator, reader: Reader) -> None:
        simulator.faults.add(Fault("reset", times=None))

        with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
            await reader.read(ACCESS_REQUESTS)

    async def test_no_answer_until_the_simulator_closes(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        simulator.faults.add(Fault("hang", times=None))
        asking = asyncio.create_task(reader.read(ACCESS_REQUESTS))

        done, _ = await asyncio.wait({asking}, timeout=0.2)
        await simulator.aclose()

        assert not done
        with pytest.raises(aiohttp.ClientError):
            await asking

    async def test_a_slow_answer(self, simulator: Simulator, reader: Reader) -> None:
        simulator.faults.add(Fault("slow", seconds=0.2))
        started = time.monotonic()

        answer = await reader.read(ACCESS_REQUESTS)

        assert answer.status == 200
        assert time.monotonic() - started >= 0.2


async def test_the_servers_date_differs_or_is_missing(simulator: Simulator, reader: Reader) -> None:
    simulator.faults.add(Fault("clock_skew", seconds=-90), Fault("no_date", after=1))

    skewed = await reader.read(ACCESS_REQUESTS)
    missing = await reader.read(ACCESS_REQUESTS)

    assert parsedate_to_datetime(skewed.headers["Date"]).timestamp() == NOON - 90
    assert "Date" not in missing.headers
