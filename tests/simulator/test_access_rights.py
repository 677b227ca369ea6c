"""Credentials, permissions, quota and identity providers: who may read what."""

from __future__ import annotations

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
            Token("old", status="expired"),
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
            "expired": await Reader(simulator.url, "old").read(ACCESS_REQUESTS, account="a" * 32),
            "wrong address": await narrow.get(
                f"/accounts/{'a' * 32}/access/identity_providers",
                headers={"X-Auth-Email": "other@example.com", "X-Auth-Key": "key"},
            ),
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
        "expired": (401, 1000),
        "wrong address": (401, 1000),
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


async def test_a_refused_provider_that_is_added_again_is_accepted(
    simulator: Simulator, reader: Reader
) -> None:
    directory = simulator.directory(DEFAULT_ACCOUNT)
    okta = directory.listed()[0]
    directory.remove(okta.id, refused=True)
    refused = await reader.read(SCIM_UPDATES, {"idp_id": okta.id})
    directory.add(okta)
    accepted = await reader.read(SCIM_UPDATES, {"idp_id": okta.id})

    assert (refused.status, accepted.status) == (400, 200)


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
