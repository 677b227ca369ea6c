"""Temporary access: each step of a request is read once, however the request changes."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from multidict import MultiDict

from forwarder.core.contracts import Page, Record, Window
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.schema import MALFORMED_KEY, AdminActivity
from forwarder.core.source_contract import Purpose, Source, SourceContext
from forwarder.core.timing import SystemClock
from forwarder.simulator import (
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    JIT_REQUESTS,
    Fault,
    ManualClock,
    Simulator,
    SimulatorSettings,
)
from forwarder.simulator.company import found_company
from forwarder.simulator.temporary_access import Request, made
from forwarder.sources.cloudflare_access import CloudflareAccess
from forwarder.sources.cloudflare_access.activity_mapping import step_id
from forwarder.testing.samples import event_of

SECOND_US = 1_000_000
NOON = 1_790_000_000
ANN, BOB, CAT = found_company(1, DEFAULT_ACCOUNT).people[:3]


def by(person: Any, **more: Any) -> dict[str, Any]:
    return {"actor_email": person.email, "actor_uuid": person.id, **more}


class Rig:
    """A simulated account and its source; `poll` reads from a minute before the last poll on."""

    def __init__(self, simulator: Simulator, clock: ManualClock, **config: Any) -> None:
        self.simulator, self.clock = simulator, clock
        self.board = simulator.board(DEFAULT_ACCOUNT)
        self._config = config
        self._plugins: list[CloudflareAccess] = []
        self.source = self.new_source()
        self.found: dict[bytes, dict[str, Any]] = {}

    def new_source(self) -> Source:
        config = CloudflareAccess.Config.model_validate(
            {
                "account_id": DEFAULT_ACCOUNT,
                "api_token": DEFAULT_TOKEN,
                "api_url": self.simulator.url,
                "streams": {JIT_REQUESTS: self._config},
            }
        )
        clock = SystemClock()
        plugin = CloudflareAccess(config, SourceContext(clock, CloudflareAccess.share(clock, None)))
        self._plugins.append(plugin)
        return plugin.streams()[JIT_REQUESTS].source

    def add(self, number: int, *steps: tuple[float, str, dict[str, Any]]) -> Request:
        request = made(number, round(self.clock.now()) * SECOND_US, ANN, steps)
        self.board.add(request)
        return request

    async def poll(self, seconds: float, purpose: Purpose = Purpose.LIVE) -> list[str]:
        """Let time pass, read, and return the types of the steps that are new."""
        new = []
        for record in await self._records(seconds, purpose):
            if record.identity not in self.found:
                self.found[record.identity] = row = orjson.loads(record.row)
                new.append(row["event"]["type"])
        return new

    async def rows(self, seconds: float) -> list[dict[str, Any]]:
        """Return all rows of a poll."""
        return [orjson.loads(one.row) for one in await self._records(seconds, Purpose.LIVE)]

    async def _records(self, seconds: float, purpose: Purpose) -> list[Record]:
        since_us = round(self.clock.now() - 60) * SECOND_US
        self.clock.advance(seconds)
        window = Window(since_us, round(self.clock.now()) * SECOND_US)
        position, pages = None, list[Page]()
        while not pages or position is not None:
            pages.append(await self.source.fetch(window, position, purpose=purpose))
            position = orjson.loads(orjson.dumps(pages[-1].position))
        self.lost = [one for page in pages for one in page.lost]
        return [record for page in pages for record in page.records]

    def details(self) -> int:
        """Return how many requests were read one by one."""
        return sum("/jit_requests/" in one.path for one in self.simulator.requests.last)

    async def aclose(self) -> None:
        for plugin in self._plugins:
            await plugin.aclose()


@pytest.fixture
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    clock = ManualClock(NOON)
    settings = SimulatorSettings(rate=0, scim_rate=0, history=60)
    async with Simulator(settings, clock=clock) as simulator:
        made_rig = Rig(simulator, clock, **getattr(request, "param", {}))
        yield made_rig
        await made_rig.aclose()


APPROVED = (
    (100, "APPROVER_DECISION", by(BOB, decision_outcome="APPROVED")),
    (250, "APPROVER_DECISION", by(CAT, decision_outcome="APPROVED")),
    (250, "COMMITTED", by(CAT)),
    (400, "LOGIN_SUCCESS", {"ray_id": "744927037ce06d68"}),
)


async def test_every_step_is_read_when_it_has_happened(rig: Rig) -> None:
    rig.add(1, *APPROVED)

    assert await rig.poll(50) == ["CREATED"]
    assert await rig.poll(100) == ["APPROVER_DECISION"]
    assert await rig.poll(50) == []
    assert await rig.poll(100) == ["APPROVER_DECISION", "COMMITTED"]
    # A login changes nothing in the list, so it is found when five minutes have passed.
    assert await rig.poll(200) == []
    assert await rig.poll(200) == ["LOGIN_SUCCESS"]
    assert len(rig.board.shown) == len(rig.found) == 5


async def test_a_step_between_two_processes_is_read_by_the_second(rig: Rig) -> None:
    rig.add(1, *APPROVED)
    await rig.poll(50)

    rig.source = rig.new_source()

    assert await rig.poll(300) == ["APPROVER_DECISION", "APPROVER_DECISION", "COMMITTED"]


@pytest.mark.parametrize(
    "end", [("CANCELED", {}), ("APPROVER_DECISION", by(BOB, decision_outcome="DENIED"))]
)
async def test_a_closed_request_is_read_once_more_and_then_no_more(
    rig: Rig, end: tuple[str, dict[str, Any]]
) -> None:
    rig.add(1, (100, *end))

    assert await rig.poll(50) == ["CREATED"]
    assert await rig.poll(100) == [end[0]]
    before = rig.details()
    assert [await rig.poll(100) for _ in range(9)] == [[]] * 9
    assert rig.details() == before + 1


async def test_an_outage_between_two_requests_hides_no_step_of_the_first(rig: Rig) -> None:
    rig.add(1, (10, "CANCELED", {}))
    rig.add(2)
    rig.simulator.faults.add(Fault("html", status=502, path="/jit_requests/", after=1))
    with pytest.raises(TransientError):
        await rig.poll(50)

    assert sorted(await rig.poll(1)) == ["CANCELED", "CREATED", "CREATED"]


async def test_a_page_that_was_not_stored_is_read_again_within_minutes(rig: Rig) -> None:
    rig.add(1, (10, "CANCELED", {}))
    await rig.poll(50)
    rig.found.clear()

    assert [await rig.poll(100) for _ in range(3)] == [[], [], ["CREATED", "CANCELED"]]


async def test_open_requests_cost_a_request_in_five_minutes_each(rig: Rig) -> None:
    for number in range(20):
        rig.add(number)
    for _ in range(15):
        await rig.poll(60)

    # Once at first, then after five and ten and fifteen minutes.
    assert rig.details() <= 20 * 4


async def test_an_approval_that_has_run_out_is_closed(rig: Rig) -> None:
    rig.add(1, *APPROVED)
    await rig.poll(3700)
    await rig.poll(3700)
    before = rig.details()

    await rig.poll(100)

    assert rig.details() == before


async def test_an_approval_that_runs_out_within_a_window_is_read_once_more(rig: Rig) -> None:
    rig.add(1, *APPROVED)
    await rig.poll(3500)
    await rig.poll(350)
    before = rig.details()

    await rig.poll(400)

    assert rig.details() == before + 1


async def test_reading_again_looks_at_closed_requests_too(rig: Rig) -> None:
    rig.add(1, (10, "CANCELED", {}))
    await rig.poll(50)
    before = rig.details()

    await rig.poll(50, Purpose.RECONCILE)

    assert rig.details() == before + 1


@pytest.mark.parametrize("rig", [{"page_size": 3}], indirect=True)
async def test_a_long_list_is_read_page_by_page(rig: Rig) -> None:
    for number in range(10):
        rig.add(number)

    assert await rig.poll(10) == ["CREATED"] * 10


@pytest.mark.parametrize("rig", [{"page_size": 3}], indirect=True)
async def test_a_list_that_ignores_pages_has_an_end_and_a_gap(rig: Rig) -> None:
    for number in range(3):
        rig.add(number)
    first = orjson.loads(rig.board.listed(MultiDict[str](), rig.clock.now()))
    body = orjson.dumps({"success": True, "errors": [], "result": first}).decode()
    rig.simulator.faults.add(
        Fault("body", status=200, body=body, path="/jit_requests?", times=None)
    )

    assert await rig.poll(10) == ["CREATED"] * 3
    (lost,) = rig.lost
    assert "ignores page numbers" in lost.detail


async def test_a_request_that_cannot_be_read_is_a_gap_and_stops_no_other(rig: Rig) -> None:
    gone = rig.add(1)
    rig.add(2)
    rig.simulator.faults.add(
        Fault("error", status=404, code=7003, message="gone", path=gone.id, times=None)
    )

    assert await rig.poll(10) == ["CREATED"]
    assert len(rig.lost) == 1


async def test_an_account_without_temporary_access_is_for_a_person(rig: Rig) -> None:
    rig.simulator.faults.add(Fault("error", status=404, code=7003, message="no route", times=None))

    with pytest.raises(NeedsOperatorError):
        await rig.poll(10)


async def test_a_step_says_who_did_what_about_which_application(rig: Rig) -> None:
    rig.add(1, *APPROVED)
    await rig.poll(500)

    steps = [event_of("jit_requests", row) for row in rig.found.values()]
    steps = sorted(steps, key=lambda one: one.time_us)

    assert all(isinstance(step, AdminActivity) for step in steps)
    assert {step.quality for step in steps} == {()}
    assert [step.action for step in steps] == ["create", "approve", "approve", "commit", "use"]
    assert [step.user for step in steps][1:4] == [BOB.email, CAT.email, CAT.email]
    assert steps[-1].extra["app_hostname"] == "wiki.example.com"


_EVENTS = {
    "none": b"null",
    "no list": b'{"type": "CREATED"}',
    "a number": b"5",
}
"""What a request may hold in place of its events."""


def _detail(request: Request, events: bytes, more: bytes = b"") -> bytes:
    shown = orjson.dumps(request.listed(NOON * SECOND_US))[1:-1]
    found = b'{"success":true,"errors":[],"result":{%b%b,"events":%b}}'
    return found % (shown, more, events)


@pytest.mark.parametrize("events", _EVENTS.values(), ids=_EVENTS)
async def test_a_request_without_a_list_of_events_is_a_gap_and_stops_no_other(
    rig: Rig, events: bytes
) -> None:
    odd = rig.add(1)
    rig.add(2)
    body = _detail(odd, events).decode()
    rig.simulator.faults.add(Fault("body", status=200, body=body, path=odd.id, times=None))

    assert await rig.poll(10) == ["CREATED"]
    assert len(rig.lost) == 1
    assert "no list of events" in rig.lost[0].detail


async def test_what_is_no_step_is_a_row_like_any_other(rig: Rig) -> None:
    body = _detail(rig.add(1), b'[["a"],5,{"type":"COMMITTED"}]').decode()
    rig.simulator.faults.add(Fault("body", status=200, body=body, path="/jit_requests/"))

    rows = await rig.rows(10)

    assert [row["event"] for row in rows] == [{}, {}, {"type": "COMMITTED"}]
    assert [row.get(MALFORMED_KEY) for row in rows] == [*["not a JSON object"] * 2, None]


_STEP = b'{"type":"COMMITTED","timestamp":"2026-01-01T00:00:00Z",'
_UNREADABLE = {
    "half a character": _STEP + rb'"note":"\ud800"}',
    "a control character": _STEP + b'"note":"a\nb"}',
    "not a number": _STEP + b'"session_duration_seconds":NaN}',
    "a long number": _STEP + b'"session_duration_seconds":%b}' % (b"9" * 30),
    "a key twice": _STEP + b'"note":"a","note":"b"}',
    "very deep": _STEP + b'"note":%b%b}' % (b"[" * 300, b"]" * 300),
}


@pytest.mark.parametrize("step", _UNREADABLE.values(), ids=_UNREADABLE)
async def test_a_step_that_is_no_clean_json_is_a_malformed_row(rig: Rig, step: bytes) -> None:
    body = _detail(rig.add(1), b'[{"type":"CREATED"},%b]' % step).decode()
    rig.simulator.faults.add(Fault("body", status=200, body=body, path="/jit_requests/"))

    clean, odd = await rig.rows(10)

    assert clean["event"] == {"type": "CREATED"}
    assert odd["event"]["type"] == "COMMITTED"
    assert MALFORMED_KEY in odd


async def test_a_purpose_that_is_no_clean_text_stops_nothing(rig: Rig) -> None:
    request = rig.add(1)
    body = _detail(request, b'[{"type":"CREATED"}]', rb',"purpose_justification":"\ud83d"')
    rig.simulator.faults.add(Fault("body", status=200, body=body.decode(), path="/jit_requests/"))

    (row,) = await rig.rows(10)

    assert row["purpose_justification"] == "\ufffd"


def test_steps_without_a_time_stay_apart() -> None:
    shared = {"knock_request_id": "r1"}
    first, second = ({**shared, "event": {"type": "LOGIN_SUCCESS", "at": at}} for at in "12")

    assert step_id(first) == step_id(second) == ""
