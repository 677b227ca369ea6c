"""The simulated analytics: what a query may ask for, groups, samples, and errors in answers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    NON_IDENTITY_LOGINS,
    Fault,
    RatePolicy,
    Simulator,
    SimulatorSettings,
    Token,
)
from tests.simulator.conftest import second
from tests.simulator.reader import Answer, Reader

NODE = "accessLoginRequestsAdaptiveGroups"
WINDOW = 'datetime_geq:"2026-09-21T14:13:00Z",datetime_lt:"2026-09-21T14:14:00Z"'


def fill(simulator: Simulator, *rays: str) -> None:
    for ray in rays:
        row = {"datetime": second(1), "cfRayId": ray, "identityProvider": "nonidentity"}
        simulator.add(DEFAULT_ACCOUNT, NON_IDENTITY_LOGINS, row)


async def ask(reader: Reader, inner: str, **variables: str) -> Answer:
    text = (
        "query Logins($who: string!) { viewer { accounts(filter: {accountTag: $who}) "
        f"{{ {inner} }} }} }}"
    )
    content = {"query": text, "variables": {"who": DEFAULT_ACCOUNT} | variables}
    return await reader.send(
        "POST",
        f"{reader.url}/graphql",
        data=orjson.dumps(content),
        headers={"Authorization": f"Bearer {reader.token}"},
    )


def node(fields: str = "datetime cfRayId", limit: int = 100, asked: str = WINDOW) -> str:
    return (
        f"{NODE}(limit: {limit}, orderBy: [datetime_ASC], filter: {{{asked}}})"
        f" {{ count avg {{ sampleInterval }} dimensions {{ {fields} }} }}"
    )


def groups(answer: Answer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer.json["data"]["viewer"]["accounts"][0][NODE]
    return found


def problem(answer: Answer) -> str:
    assert (answer.status, answer.json["data"]) == (200, None)
    message: str = answer.json["errors"][0]["message"]
    return message


async def test_logins_that_are_alike_are_one_group(simulator: Simulator, reader: Reader) -> None:
    fill(simulator, "a", "b", "a")

    found = groups(await ask(reader, node()))
    together = groups(await ask(reader, node("datetime")))

    assert {group["dimensions"]["cfRayId"]: group["count"] for group in found} == {"a": 2, "b": 1}
    assert [group["count"] for group in together] == [3]


async def test_a_sample_keeps_the_same_logins_in_every_query(
    simulator: Simulator, reader: Reader
) -> None:
    fill(simulator, *(f"{number:016x}" for number in range(100)))
    simulator.faults.add(Fault("sampled", count=5, times=None))

    first, again = groups(await ask(reader, node())), groups(await ask(reader, node()))

    assert first == again
    assert 0 < len(first) < 50
    assert {(one["count"], one["avg"]["sampleInterval"]) for one in first} == {(5, 5)}


async def test_the_limit_cuts_and_the_bounds_are_half_open(
    simulator: Simulator, reader: Reader
) -> None:
    fill(simulator, "a", "b")
    before = 'datetime_geq:"2026-09-21T14:12:00Z",datetime_lt:"2026-09-21T14:13:01Z"'

    assert len(groups(await ask(reader, node(limit=1)))) == 1
    assert groups(await ask(reader, node(asked=before))) == []


async def test_the_settings_say_what_the_plan_has(simulator: Simulator, reader: Reader) -> None:
    simulator.faults.add(Fault("lacking", key="deviceId", times=None))

    answer = await ask(reader, f"settings {{ {NODE} {{ maxPageSize availableFields }} }}")
    told = answer.json["data"]["viewer"]["accounts"][0]["settings"][NODE]

    assert told["maxPageSize"] == 10_000
    assert "dimensions_cfRayId" in told["availableFields"]
    assert "dimensions_deviceId" not in told["availableFields"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (node("datetime colour"), "unknown field"),
        (node(limit=10_001), "not greater than"),
        (node(asked=WINDOW.replace("2026-09-21T14:13", "2026-09-01T14:13")), "too large"),
        (node(asked=WINDOW.replace("2026-", "2025-")), "older than"),
        (node(asked='datetime_geq:"yesterday"'), "is no Time"),
        (f"{NODE}(limit: 1", "error parsing args"),
        ("cities { name }", "unknown field"),
    ],
)
async def test_what_is_refused_has_status_200_and_an_error(
    simulator: Simulator, reader: Reader, asked: str, words: str
) -> None:
    fill(simulator, "a")

    assert words in problem(await ask(reader, asked))


async def test_a_field_that_the_plan_lacks_fails_the_whole_query(
    simulator: Simulator, reader: Reader
) -> None:
    fill(simulator, "a")
    simulator.faults.add(Fault("lacking", key="cfRayId", times=None))

    assert "unknown field" in problem(await ask(reader, node()))


async def test_a_token_without_the_permission_is_not_authorised(
    simulator: Simulator, reader: Reader
) -> None:
    simulator.admit(Token(DEFAULT_TOKEN, permissions=frozenset({ACCESS_REQUESTS})))

    assert "not authorized" in problem(await ask(reader, node()))


async def test_a_login_more_amends_a_group_and_a_late_one_is_another(
    simulator: Simulator, reader: Reader
) -> None:
    fill(simulator, "a", "b")
    await ask(reader, node())
    simulator.faults.add(Fault("amend", count=1))

    assert sorted(group["count"] for group in groups(await ask(reader, node()))) == [1, 2]
    assert len(simulator.analytics(DEFAULT_ACCOUNT).shown) == 2


async def test_what_was_shown_can_be_asked_for(simulator: Simulator, reader: Reader) -> None:
    fill(simulator, "a", "a")
    await ask(reader, node())

    answer = await reader.control("GET", f"shown?stream={NON_IDENTITY_LOGINS}")
    (line,) = answer.raw.splitlines()

    assert orjson.loads(line)["row"] == {
        "datetime": second(1),
        "cfRayId": "a",
        "count": 2,
        "sampleInterval": 1,
    }


async def test_queries_are_counted_apart_from_requests() -> None:
    settings = SimulatorSettings(
        rate=0, scim_rate=0, policy=RatePolicy(requests=2), query_policy=RatePolicy(requests=1)
    )
    async with Simulator(settings) as running:
        reader = Reader(running.url)
        statuses = [(await ask(reader, "settings")).status for _ in range(2)]
        requests = [(await reader.read(ACCESS_REQUESTS)).status for _ in range(2)]

    assert statuses == [200, 429]
    assert requests == [200, 200]
