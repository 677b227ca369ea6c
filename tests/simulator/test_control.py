"""Control requests do from another process what a test does in this one."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from typing import Any

import orjson
import pytest

from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    IDENTITY_PROVIDERS,
    SCIM_UPDATES,
    ManualClock,
    Simulator,
    SimulatorSettings,
)
from tests.simulator.conftest import NOON
from tests.simulator.reader import Answer, Reader

STREAM = {"account": DEFAULT_ACCOUNT, "stream": ACCESS_REQUESTS}
ROW = {"created_at": "2026-09-21T14:13:00Z", "n": 1}


def lines(answer: Answer) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in answer.raw.splitlines()]


async def test_rows_are_added_amended_and_listed_once_shown(reader: Reader) -> None:
    raw = b'{"created_at":"2026-09-21T14:13:01Z","bad":"\xff"}'
    content = {**STREAM, "rows": [ROW, ROW], "raw": [b64encode(raw).decode()]}
    added = await reader.control("POST", "rows", content)
    await reader.control("POST", "rows", {**STREAM, "rows": [{"n": 2}], "visible_in": 60})
    await reader.read(ACCESS_REQUESTS)
    await reader.control("POST", "amend", {**STREAM, "number": 0, "changes": {"n": 9}})

    shown = lines(await reader.control("GET", "shown?stream=access_requests"))

    assert added.json == {"numbers": [0, 1, 2]}
    assert [line.get("row") for line in shown] == [ROW, ROW, None]
    assert b64decode(shown[2]["raw"]) == raw
    assert {line["first_shown"] for line in shown} == {NOON}
    assert {(line["account"], line["stream"]) for line in shown} == {tuple(STREAM.values())}


async def test_shown_is_selected_and_reduced(reader: Reader) -> None:
    await reader.control("POST", "rows", {**STREAM, "rows": [ROW, ROW]})
    await reader.read(ACCESS_REQUESTS, {"limit": "1"})
    await reader.read(ACCESS_REQUESTS, {"limit": "1", "page": "2"})

    counts = [
        len(lines(await reader.control("GET", f"shown{query}")))
        for query in ("", "?expected=true", "?stream=scim_updates", "?account=x")
    ]

    assert counts == [2, 1, 0, 0]


async def test_a_long_oracle_is_streamed_whole(clock: ManualClock) -> None:
    settings = SimulatorSettings(rate=100, history=35)
    async with Simulator(settings, clock=clock) as simulator:
        reader = Reader(simulator.url)
        for page in range(1, 5):
            await reader.read(ACCESS_REQUESTS, {"limit": "1000", "page": str(page)})
        shown = lines(await reader.control("GET", "shown"))

        assert [line["row"] for line in shown] == simulator.shown(DEFAULT_ACCOUNT, ACCESS_REQUESTS)
        assert len(shown) > 2000


async def test_faults_are_put_in_force_and_ended(reader: Reader) -> None:
    faults = [{"kind": "html", "status": 503, "times": None}, {"kind": "no_date"}]

    listed = await reader.control("POST", "faults", faults)
    struck = await reader.read(ACCESS_REQUESTS)
    await reader.control("DELETE", "faults?kind=html")
    state = await reader.control("GET", "state")
    await reader.control("DELETE", "faults")
    ended = await reader.control("GET", "state")

    assert [fault["kind"] for fault in listed.json] == ["html", "no_date"]
    assert struck.status == 503
    assert (await reader.read(ACCESS_REQUESTS)).status == 200
    assert [fault["kind"] for fault in state.json["faults"]] == []
    assert ended.json["faults"] == []


async def test_providers_are_added_switched_refused_and_removed(reader: Reader) -> None:
    async def change(**content: Any) -> dict[str, bool | None]:
        answer = await reader.control("POST", "idps", {"account": DEFAULT_ACCOUNT, **content})
        return {one["id"]: one.get("scim_config", {}).get("enabled") for one in answer.json}

    added = await change(
        action="add", idp={"id": "new", "name": "New", "type": "okta", "scim": True}
    )
    disabled = await change(action="disable", id="new")
    enabled = await change(action="enable", id="new")
    await change(action="refuse", id="new")
    refused = await reader.read(SCIM_UPDATES, {"idp_id": "new"})
    await change(action="accept", id="new")
    accepted = await reader.read(SCIM_UPDATES, {"idp_id": "new"})
    removed = await change(action="remove", id="new")

    assert (added["new"], disabled["new"], enabled["new"]) == (True, False, True)
    assert (refused.status, accepted.status) == (400, 200)
    assert "new" not in removed


async def test_tokens_are_admitted_and_revoked(simulator: Simulator, reader: Reader) -> None:
    other = Reader(simulator.url, "other")
    content = {"action": "admit", "value": "other", "permissions": [ACCESS_REQUESTS]}

    await reader.control("POST", "tokens", content)
    statuses = [(await other.read(s)).status for s in (ACCESS_REQUESTS, IDENTITY_PROVIDERS)]
    await reader.control("POST", "tokens", {"action": "revoke", "value": "other"})
    statuses.append((await other.read(ACCESS_REQUESTS)).status)

    assert statuses == [200, 403, 401]


async def test_requests_are_counted_with_the_busiest_window(
    simulator: Simulator, clock: ManualClock, reader: Reader
) -> None:
    for _ in range(3):
        await reader.read(ACCESS_REQUESTS)
        await reader.read(IDENTITY_PROVIDERS)
        clock.advance(10)

    counted = (await reader.control("GET", "requests?window=15")).json

    assert counted["counts"] == {ACCESS_REQUESTS: 3, IDENTITY_PROVIDERS: 3}
    assert counted["statuses"] == {"200": 6}
    assert (counted["busiest"], counted["busiest_of"][ACCESS_REQUESTS]) == (4, 2)
    assert [visit["at"] for visit in counted["last"][::2]] == [NOON, NOON + 10, NOON + 20]
    assert simulator.requests.busiest(1000) == 6


async def test_the_state_tells_clock_rows_and_providers(
    simulator: Simulator, reader: Reader
) -> None:
    simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, ROW)
    simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, ROW, visible_at=NOON + 1)

    state = (await reader.control("GET", "state")).json

    assert state["now"] == NOON
    assert state["streams"][0] == {**STREAM, "rows": 2, "visible": 1, "pending": 1, "shown": 0}
    assert len(state["accounts"][DEFAULT_ACCOUNT]) == 5


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("faults", {"kind": "nonsense"}),
        ("faults", {"kind": "html", "colour": "red"}),
        ("rows", {"account": "nobody", "stream": ACCESS_REQUESTS, "rows": []}),
        ("rows", {}),
        ("idps", {"account": DEFAULT_ACCOUNT, "action": "paint"}),
        ("idps", {"account": DEFAULT_ACCOUNT, "action": "enable", "id": "nobody"}),
        ("tokens", {"action": "steal", "value": "x"}),
        ("amend", {**STREAM, "number": 99, "changes": {}}),
        ("rows", {**STREAM, "raw": ["no base64!"]}),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    reader: Reader, name: str, content: Any
) -> None:
    answer = await reader.control("POST", name, content)

    assert answer.status == 400
    assert answer.json["error"]


async def test_it_serves_until_it_is_cancelled() -> None:
    listening = asyncio.get_running_loop().create_future()
    settings = SimulatorSettings(history=0)
    serving = asyncio.create_task(Simulator(settings).serve("127.0.0.1", 0, listening.set_result))
    url = await listening

    answer = await Reader(url).get("/user/tokens/verify")
    serving.cancel()
    await asyncio.wait({serving})

    assert answer.status == 200
    assert serving.cancelled()
    with pytest.raises(OSError, match="Cannot connect"):
        await Reader(url).get("/user/tokens/verify")
