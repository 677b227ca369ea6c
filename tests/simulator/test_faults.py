"""Every scripted fault does on the wire what it says."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from email.utils import parsedate_to_datetime

import aiohttp
import orjson
import pytest

from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    IDENTITY_PROVIDERS,
    SCIM_UPDATES,
    Fault,
    ManualClock,
    Simulator,
    SimulatorSettings,
)
from forwarder.simulator.faults import KINDS
from forwarder.simulator.unreadable import VARIANTS, read_row
from tests.simulator.conftest import NOON
from tests.simulator.reader import Answer, Reader

FIRST, LAST = 1, 9
ASCENDING = {"direction": "asc"}


def second(number: int, fraction: str = "") -> str:
    return f"2026-09-21T14:13:0{number}{fraction}Z"


@pytest.fixture
def rows(simulator: Simulator) -> list[int]:
    """Nine rows, one a second, each named by its second; the last five seconds are empty."""
    for number in range(FIRST, LAST + 1):
        row = {"created_at": second(number), "n": number}
        simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, row)
    return list(range(FIRST, LAST + 1))


def numbers(answer: Answer) -> list[int]:
    return [row["n"] for row in answer.rows]


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


@pytest.mark.usefixtures("rows")
class TestQueriesThatAreMisread:
    async def ask(
        self, simulator: Simulator, reader: Reader, fault: Fault, **query: str
    ) -> list[int]:
        simulator.faults.add(fault)
        return numbers(await reader.read(ACCESS_REQUESTS, ASCENDING | query))

    async def test_page_and_direction_are_ignored(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        paged = await self.ask(simulator, reader, Fault("ignore_page"), page="2", limit="3")
        turned = await self.ask(simulator, reader, Fault("ignore_direction"))

        assert paged == [1, 2, 3]
        assert turned == list(range(LAST, 0, -1))

    async def test_since_excludes_or_includes_its_own_instant(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        exclusive = await self.ask(simulator, reader, Fault("exclusive_since"), since=second(8))
        inclusive = await self.ask(simulator, reader, Fault("inclusive_since"), since=second(8))

        assert (exclusive, inclusive) == ([9], [8, 9])

    async def test_since_is_cut_to_the_second(self, simulator: Simulator, reader: Reader) -> None:
        since = second(8, ".75")

        exact = numbers(await reader.read(ACCESS_REQUESTS, {"since": since}))
        cut = await self.ask(simulator, reader, Fault("whole_second_since"), since=since)

        assert (exact, cut) == ([9], [8, 9])

    async def test_a_page_holds_fewer_rows_than_asked(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        assert await self.ask(simulator, reader, Fault("small_page", count=2)) == [1, 2]

    async def test_rows_come_from_outside_the_window(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        fault = Fault("outside_window", seconds=2)
        window = {"since": second(5), "until": second(6)}

        assert await self.ask(simulator, reader, fault, **window) == [3, 4, 5, 6, 7, 8]

    async def test_the_previous_page_comes_again(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        first = await reader.read(ACCESS_REQUESTS, {"limit": "2"})
        again = await self.ask(simulator, reader, Fault("repeat_page"), page="2", limit="2")

        assert again == numbers(first) == [9, 8]

    async def test_keys_come_in_another_order(self, simulator: Simulator, reader: Reader) -> None:
        plain = await reader.read(ACCESS_REQUESTS)
        simulator.faults.add(Fault("shuffle_keys"))
        shuffled = await reader.read(ACCESS_REQUESTS)

        assert plain.rows == shuffled.rows
        assert plain.raw != shuffled.raw


async def test_the_provider_asked_for_is_ignored(simulator: Simulator, reader: Reader) -> None:
    okta, entra = simulator.directory(DEFAULT_ACCOUNT).provisioning()
    simulator.add(DEFAULT_ACCOUNT, SCIM_UPDATES, {"idp_id": okta})
    simulator.faults.add(Fault("ignore_idp_id"))

    ignored = await reader.read(SCIM_UPDATES, {"idp_id": entra})
    heeded = await reader.read(SCIM_UPDATES, {"idp_id": entra})

    assert (len(ignored.rows), len(heeded.rows)) == (1, 0)


async def test_the_servers_date_differs_or_is_missing(simulator: Simulator, reader: Reader) -> None:
    simulator.faults.add(Fault("clock_skew", seconds=-90), Fault("no_date", after=1))

    skewed = await reader.read(ACCESS_REQUESTS)
    missing = await reader.read(ACCESS_REQUESTS)

    assert parsedate_to_datetime(skewed.headers["Date"]).timestamp() == NOON - 90
    assert "Date" not in missing.headers


@pytest.mark.usefixtures("rows")
class TestRowsThatChange:
    async def test_rows_expire_while_a_window_is_read(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        simulator.faults.add(Fault("expire", after=1, seconds=NOON - 1_789_999_985.5))
        query = {"direction": "asc", "limit": "2"}

        before = await reader.read(ACCESS_REQUESTS, query)
        shifted = await reader.read(ACCESS_REQUESTS, query | {"page": "2"})

        assert (numbers(before), numbers(shifted)) == ([1, 2], [8, 9])

    async def test_a_value_is_amended_later(self, simulator: Simulator, reader: Reader) -> None:
        simulator.faults.add(Fault("amend", after=1, count=2, key="n", value=0))

        before = await reader.read(ACCESS_REQUESTS, ASCENDING)
        after = await reader.read(ACCESS_REQUESTS, ASCENDING)

        assert numbers(before) == list(range(1, 10))
        assert numbers(after) == [1, 2, 3, 4, 5, 6, 7, 0, 0]

    async def test_a_second_holds_more_rows_than_a_page(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        simulator.faults.add(Fault("burst", count=30))

        answer = await reader.read(ACCESS_REQUESTS)

        assert len(answer.rows) == 25
        assert {row["created_at"] for row in answer.rows} == {"2026-09-21T14:13:20Z"}
        assert len({row["ray_id"] for row in answer.rows}) == 25

    @pytest.mark.parametrize("variant", VARIANTS)
    async def test_a_body_that_orjson_refuses(
        self, simulator: Simulator, reader: Reader, variant: str
    ) -> None:
        simulator.faults.add(Fault("unreadable", count=1, value=variant))

        answer = await reader.read(ACCESS_REQUESTS)

        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(answer.raw)
        assert VARIANTS[variant] in answer.raw
        assert len(simulator.shown(DEFAULT_ACCOUNT, ACCESS_REQUESTS)) == LAST + 1


class TestRowsThatArrive:
    async def test_rows_become_visible_late(self) -> None:
        clock = ManualClock(NOON)
        late = Fault("late", times=None, seconds=60, stream=ACCESS_REQUESTS)
        settings = SimulatorSettings(rate=4, history=30, faults=(late,))
        async with Simulator(settings, clock=clock) as simulator:
            reader = Reader(simulator.url)
            early = await reader.read(ACCESS_REQUESTS)
            clock.advance(45)
            middle = await reader.read(ACCESS_REQUESTS, {"limit": "1000"})

        assert early.rows == []
        assert 40 < len(middle.rows) < 80
        assert max(row["created_at"] for row in middle.rows) < "2026-09-21T14:13:06Z"

    async def test_a_row_arrives_twice(self) -> None:
        twins = Fault("twins", times=3, count=4, stream=ACCESS_REQUESTS)
        settings = SimulatorSettings(rate=4, history=30, faults=(twins,))
        async with Simulator(settings, clock=ManualClock(NOON)) as simulator:
            answer = await Reader(simulator.url).read(ACCESS_REQUESTS, {"limit": "1000"})

        copies = Counter(map(orjson.dumps, answer.rows)).values()
        assert Counter(copies) == {1: len(copies) - 3, 4: 3}

    async def test_an_added_row_waits_until_it_may_be_seen(
        self, simulator: Simulator, clock: ManualClock, reader: Reader
    ) -> None:
        row = {"created_at": second(1)}
        simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, row, visible_at=NOON + 5)

        before = await reader.read(ACCESS_REQUESTS)
        clock.advance(5)
        after = await reader.read(ACCESS_REQUESTS)

        assert (before.rows, after.rows) == ([], [row])


class TestWhichRequestsAreStruck:
    async def statuses(self, reader: Reader, *streams: str) -> list[int]:
        return [(await reader.read(stream)).status for stream in streams]

    async def test_those_of_a_stream_after_some_a_number_of_times(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        simulator.faults.add(Fault("html", times=2, after=1, stream=ACCESS_REQUESTS))

        access, idps = ACCESS_REQUESTS, IDENTITY_PROVIDERS
        statuses = await self.statuses(reader, access, idps, access, idps, access, access)

        assert statuses == [200, 200, 502, 200, 502, 200]
        assert simulator.faults.active() == []

    async def test_those_with_a_text_in_the_path(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        simulator.faults.add(Fault("html", path="page=2"))

        first = await reader.read(ACCESS_REQUESTS, {"page": "1"})
        other = await reader.read(ACCESS_REQUESTS, {"page": "2"})

        assert (first.status, other.status) == (200, 502)

    async def test_until_it_is_removed(self, simulator: Simulator, reader: Reader) -> None:
        simulator.faults.add(Fault("html", times=None), Fault("no_date", times=None))
        struck = await self.statuses(reader, *[ACCESS_REQUESTS] * 5)
        simulator.faults.remove("html")

        assert struck == [502] * 5
        assert await self.statuses(reader, ACCESS_REQUESTS) == [200]
        assert [fault.kind for fault, _ in simulator.faults.active()] == ["no_date"]

    async def test_one_answer_is_replaced_once(self, simulator: Simulator, reader: Reader) -> None:
        simulator.faults.add(Fault("html", status=500), Fault("html", status=503))

        statuses = await self.statuses(reader, *[ACCESS_REQUESTS] * 3)

        assert statuses == [500, 503, 200]

    async def test_a_share_of_them(self, simulator: Simulator, reader: Reader) -> None:
        simulator.faults.add(Fault("html", times=None, share=0.5))

        statuses = await self.statuses(reader, *[ACCESS_REQUESTS] * 40)

        assert 8 <= statuses.count(502) <= 32


def test_an_unknown_fault_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"html.*throttled"):
        Fault("nonsense")  # type: ignore[arg-type]


def test_every_kind_of_fault_is_tested_here() -> None:
    source = read_own_source()

    assert {kind for kind in KINDS if f'Fault("{kind}"' not in source} == {"new_key"}


def read_own_source() -> str:
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123
        return file.read()


def test_what_nobody_can_read_is_kept_as_text() -> None:
    assert read_row(b"[1]") == {"unreadable": "[1]"}
    assert read_row(b'{"a":"\xe9"}') == {"unreadable": '{"a":"\\xe9"}'}
    assert read_row(b'{"a":"\\ud800"}') == {"a": "\ud800"}
