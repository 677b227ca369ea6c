"""Envelope, headers, parameters and errors, over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    IDENTITY_PROVIDERS,
    SCIM_UPDATES,
    ManualClock,
    RatePolicy,
    Simulator,
    SimulatorSettings,
    Token,
)
from tests.simulator.reader import Reader


def row(number: int, time: str = "2026-09-21T14:13:00Z") -> dict[str, Any]:
    return {"created_at": time, "ray_id": f"{number:04x}"}


async def test_an_answer_is_cloudflares_envelope(simulator: Simulator, reader: Reader) -> None:
    simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, row(1))

    answer = await reader.read(ACCESS_REQUESTS)

    assert answer.status == 200
    assert answer.json == {
        "result": [row(1)],
        "success": True,
        "errors": [],
        "messages": [],
        "result_info": {"count": 1, "page": 1, "per_page": 25, "total_count": 0},
    }


async def test_every_answer_tells_ray_date_and_quota(reader: Reader) -> None:
    answers = [await reader.read(ACCESS_REQUESTS), await reader.get("/nowhere")]

    for remaining, answer in zip((1199, 1198), answers, strict=True):
        assert answer.headers["Ratelimit"] == f'"default";r={remaining};t=300'
        assert answer.headers["Ratelimit-Policy"] == '"default";q=1200;w=300'
        assert answer.headers["Date"] == "Mon, 21 Sep 2026 14:13:20 GMT"
    assert answers[0].headers["cf-ray"] != answers[1].headers["cf-ray"]


async def test_provisioning_counts_honestly_and_shows_twenty(
    simulator: Simulator, reader: Reader
) -> None:
    idp = simulator.directory(DEFAULT_ACCOUNT).provisioning()[0]
    for _ in range(41):
        simulator.add(DEFAULT_ACCOUNT, SCIM_UPDATES, {"idp_id": idp})

    answer = await reader.read(SCIM_UPDATES, [("idp_id", idp), ("page", "3")])

    assert answer.json["result_info"] == {
        "count": 1, "page": 3, "per_page": 20, "total_count": 41, "total_pages": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        ({}, 25),
        ({"limit": "40"}, 40),
        ({"per_page": "40"}, 40),
        ({"limit": "40", "per_page": "30"}, 30),
        ({"limit": "5000"}, 50),
    ],
)
async def test_the_smaller_of_both_sizes_and_the_cap_apply(
    clock: ManualClock, sizes: Mapping[str, str], rows: int
) -> None:
    settings = SimulatorSettings(rate=0, page_cap=50)
    async with Simulator(settings, clock=clock) as simulator:
        for number in range(60):
            simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, row(number))

        answer = await Reader(simulator.url).read(ACCESS_REQUESTS, sizes)

    assert len(answer.rows) == answer.json["result_info"]["per_page"] == rows


async def test_settings_can_make_the_api_stricter(clock: ManualClock) -> None:
    settings = SimulatorSettings(
        rate=0, unsent_size_counts=True, refuse_over_cap=True, require_idp_id=False
    )
    async with Simulator(settings, clock=clock) as simulator:
        reader = Reader(simulator.url)
        shrunk = await reader.read(ACCESS_REQUESTS, {"limit": "1000"})
        refused = await reader.read(ACCESS_REQUESTS, {"limit": "1001", "per_page": "1001"})
        without_idp = await reader.read(SCIM_UPDATES)

    assert shrunk.json["result_info"]["per_page"] == 25
    assert (refused.status, refused.code) == (400, 12130)
    assert without_idp.status == 200


@pytest.mark.parametrize(
    "params",
    [
        {"direction": "up"}, {"page": "0"}, {"page": "x"}, {"limit": "-1"}, {"since": "yesterday"},
        {"until": "2026-09-21"}, {"allowed": "maybe"}, {"emailOp": "like"},
        {"ray_idOp": "contains"}, {"user_idOp": "lt"},
    ],
)  # fmt: skip
async def test_a_parameter_that_cannot_be_read_is_refused(
    reader: Reader, params: dict[str, str]
) -> None:
    answer = await reader.read(ACCESS_REQUESTS, params)

    assert (answer.status, answer.code) == (400, 12130)
    assert answer.json["success"] is False


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 400, 9106),
        ({"Authorization": "Bearer "}, 400, 6003),
        ({"Authorization": 'Bearer "quoted"'}, 400, 6003),
        ({"Authorization": "Bearer Bearer x"}, 400, 6003),
        ({"Authorization": "Bearer wrong"}, 401, 1000),
        ({"X-Auth-Email": "a@example.com", "X-Auth-Key": "wrong"}, 401, 1000),
    ],
)
async def test_wrong_credentials_get_cloudflares_codes(
    reader: Reader, headers: dict[str, str], status: int, code: int
) -> None:
    answer = await reader.get(
        f"/accounts/{DEFAULT_ACCOUNT}/access/logs/access_requests", headers=headers
    )

    assert (answer.status, answer.code) == (status, code)
    if code == 6003:
        assert answer.json["errors"][0]["error_chain"][0]["code"] == 6111


async def test_a_token_reads_what_it_may(clock: ManualClock) -> None:
    settings = SimulatorSettings(
        accounts=("a" * 32, "b" * 32),
        tokens=(
            Token("narrow", frozenset({ACCESS_REQUESTS}), frozenset({"a" * 32})),
            Token("key", email="admin@example.com"),
            Token("owned", kind="account"),
        ),
    )
    async with Simulator(settings, clock=clock) as simulator:
        narrow, owned = Reader(simulator.url, "narrow"), Reader(simulator.url, "owned")
        answers = {
            "own": await narrow.read(ACCESS_REQUESTS, account="a" * 32),
            "scim": await narrow.read(SCIM_UPDATES, account="a" * 32),
            "idps": await narrow.read(IDENTITY_PROVIDERS, account="a" * 32),
            "foreign": await narrow.read(ACCESS_REQUESTS, account="b" * 32),
            "unknown": await narrow.read(ACCESS_REQUESTS, account="c" * 32),
            "user verify": await narrow.get("/user/tokens/verify"),
            "account verify": await owned.get(f"/accounts/{'a' * 32}/tokens/verify"),
            "wrong verify": await owned.get("/user/tokens/verify"),
            "key": await narrow.get(
                f"/accounts/{'a' * 32}/access/identity_providers",
                headers={"X-Auth-Email": "admin@example.com", "X-Auth-Key": "key"},
            ),
        }

    told = {name: (a.status, a.json["success"] or a.code) for name, a in answers.items()}
    assert told == {
        "own": (200, True),
        "scim": (403, 10000),
        "idps": (403, 10000),
        "foreign": (403, 9109),
        "unknown": (404, 7003),
        "user verify": (200, True),
        "account verify": (200, True),
        "wrong verify": (401, 1000),
        "key": (200, True),
    }
    assert answers["user verify"].json["result"]["status"] == "active"


async def test_a_token_is_revoked_and_admitted_at_run_time(
    simulator: Simulator, reader: Reader
) -> None:
    simulator.revoke(DEFAULT_TOKEN)
    revoked = await reader.read(ACCESS_REQUESTS)
    simulator.admit(Token(DEFAULT_TOKEN))
    admitted = await reader.read(ACCESS_REQUESTS)

    assert (revoked.code, admitted.status) == (1000, 200)


def test_a_tokens_value_is_not_in_its_repr() -> None:
    assert DEFAULT_TOKEN not in repr(SimulatorSettings())


async def test_over_the_quota_everything_is_blocked(clock: ManualClock) -> None:
    settings = SimulatorSettings(policy=RatePolicy(requests=2, window=30, block=60))
    async with Simulator(settings, clock=clock) as simulator:
        reader = Reader(simulator.url)
        answers = [await reader.read(ACCESS_REQUESTS) for _ in range(3)]
        clock.advance(59)
        answers.append(await reader.get("/user/tokens/verify"))
        clock.advance(2)
        answers.append(await reader.read(ACCESS_REQUESTS))

    assert [answer.status for answer in answers] == [200, 200, 429, 429, 200]
    assert [answer.headers.get("Retry-After") for answer in answers] == [
        None, None, "60", "1", None,
    ]  # fmt: skip
    assert answers[2].code == 971
    assert simulator.times_throttled == 1
    assert simulator.requests.busiest(30) == 3


async def test_identity_providers_come_and_go(simulator: Simulator, reader: Reader) -> None:
    directory = simulator.directory(DEFAULT_ACCOUNT)
    okta, entra = directory.provisioning()
    directory.remove(okta)
    directory.switch(entra, scim=False)

    listed = await reader.read(IDENTITY_PROVIDERS)
    provisioning = await reader.read(IDENTITY_PROVIDERS, {"scim_enabled": "true"})
    removed = await reader.read(SCIM_UPDATES, {"idp_id": okta})
    directory.refuse(okta)
    refused = await reader.read(SCIM_UPDATES, [("idp_id", entra), ("idp_id", okta)])
    unknown = await reader.read(SCIM_UPDATES, {"idp_id": "unknown"})
    missing = await reader.read(SCIM_UPDATES)

    assert {provider["type"] for provider in listed.rows} == {
        "azureAD", "google-apps", "saml", "onetimepin",
    }  # fmt: skip
    assert provisioning.rows == []
    assert removed.status == 200
    assert [(a.status, a.code) for a in (refused, unknown, missing)] == [(400, 12130)] * 3


async def test_fields_project_the_rows(simulator: Simulator, reader: Reader) -> None:
    simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, {**row(1), "allowed": True})

    answer = await reader.read(ACCESS_REQUESTS, {"fields": "allowed,ray_id,missing"})

    assert answer.rows == [{"allowed": True, "ray_id": "0001"}]


async def test_live_rows_appear_when_their_time_has_come_and_leave_with_retention(
    clock: ManualClock,
) -> None:
    settings = SimulatorSettings(rate=5, history=10, retention=60)
    async with Simulator(settings, clock=clock) as simulator:
        reader = Reader(simulator.url)
        counts = []
        for seconds in (0, 20, 40, 60):
            clock.advance(seconds)
            rows = (await reader.read(ACCESS_REQUESTS, {"limit": "1000"})).rows
            counts.append(len(rows))
            assert all("2026-09-21" in one["created_at"] for one in rows)

    assert counts[0] < counts[1] < counts[2]
    assert counts[3] == pytest.approx(300, rel=0.25)


async def test_closing_is_idempotent_and_safe_without_a_start() -> None:
    simulator = Simulator()

    await simulator.aclose()
    await simulator.start()
    await simulator.aclose()
    await simulator.aclose()
