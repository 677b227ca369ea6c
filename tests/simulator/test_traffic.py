"""Generated traffic: the same for the same seed, and as odd as the real one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given

from forwarder.simulator.company import found_company
from forwarder.simulator.rows import format_moment, parse_moment
from forwarder.simulator.traffic import login_rows, provisioning_rows

SECOND = 1_790_000_000
SEEDS = st.integers(0, 2**32)
ACCOUNTS = st.text("0123456789abcdef", min_size=32, max_size=32)
SECONDS = st.integers(1_500_000_000, 2_000_000_000)


@pytest.fixture(scope="module")
def logins() -> list[dict[str, Any]]:
    company = found_company(1, "a" * 32)
    drawn = (login_rows(company, 1, "a" * 32, SECOND + n, 40) for n in range(200))
    return [row for rows in drawn for _, row in rows]


@pytest.fixture(scope="module")
def updates() -> list[dict[str, Any]]:
    company = found_company(1, "a" * 32)
    idps = [provider.id for provider in company.identity_providers if provider.scim]
    drawn = (provisioning_rows(company, idps, 1, "a" * 32, SECOND + n, 10) for n in range(200))
    return [row for rows in drawn for _, row in rows]


@given(SEEDS, ACCOUNTS, SECONDS)
def test_a_second_is_a_function_of_seed_and_account(seed: int, account: str, second: int) -> None:
    once, again = (
        login_rows(found_company(seed, account), seed, account, second, 20) for _ in range(2)
    )

    assert once == again


@given(SEEDS, ACCOUNTS, SECONDS)
def test_rows_state_the_time_at_which_they_lie(seed: int, account: str, second: int) -> None:
    company = found_company(seed, account)
    rows = login_rows(company, seed, account, second, 20)
    rows += provisioning_rows(company, ["idp"], seed, account, second, 20)

    for time_us, row in rows:
        assert parse_moment(row.get("created_at") or row["logged_at"]) == time_us
        assert time_us // 1_000_000 == second


@given(SEEDS, ACCOUNTS, SECONDS)
def test_a_seconds_rows_are_in_the_order_of_time(seed: int, account: str, second: int) -> None:
    company = found_company(seed, account)

    for rows in (
        login_rows(company, seed, account, second, 20),
        provisioning_rows(company, ["idp"], seed, account, second, 20),
    ):
        times = [time_us for time_us, _ in rows]
        assert times == sorted(times)


def test_other_seeds_and_accounts_have_other_traffic() -> None:
    drawn = [
        login_rows(found_company(seed, account), seed, account, SECOND, 20)
        for seed in (1, 2)
        for account in ("a" * 32, "b" * 32)
    ]

    assert all(drawn.count(rows) == 1 for rows in drawn)


def test_the_average_rate_is_the_asked_one(logins: list[dict[str, Any]]) -> None:
    assert len(logins) / 200 == pytest.approx(40, rel=0.05)


def test_logins_are_as_odd_as_real_ones(logins: list[dict[str, Any]]) -> None:
    rays = Counter(row.get("ray_id") for row in logins)
    whole = [row for row in logins if "." not in row["created_at"]]
    countries = {row.get("country") for row in logins}

    assert 0.2 < len(whole) / len(logins) < 0.8
    assert max(Counter(row["created_at"] for row in logins).values()) > 1
    assert any(count > 1 for ray, count in rays.items() if ray)
    assert {"US", "us"} <= countries
    assert {None, True, False} > {row.get("allowed") for row in logins} > {True}
    assert any(":" in row["ip_address"] for row in logins)
    assert any("." in row["ip_address"] for row in logins)
    assert any("user_id" not in row for row in logins)
    assert any(row.get("user_email") == "" for row in logins)
    assert {"okta", "azureAD", "google-apps", "onetimepin", "saml", "nonidentity"} <= {
        row.get("connection") for row in logins
    }
    assert {"self_hosted", "saas", "ssh", "warp"} <= {row.get("app_type") for row in logins}


def test_service_tokens_stand_where_an_address_is_expected(logins: list[dict[str, Any]]) -> None:
    machines = [row for row in logins if row.get("connection") == "nonidentity"]

    named = {row["user_email"] for row in machines} - {""}
    assert named
    assert all(name.endswith(".access") and "@" not in name for name in named)


def test_generated_rows_are_never_twins(logins: list[dict[str, Any]]) -> None:
    assert max(Counter(map(orjson.dumps, logins)).values()) == 1


def test_updates_are_as_odd_as_real_ones(updates: list[dict[str, Any]]) -> None:
    groups = [row for row in updates if row["resource_type"] == "GROUP"]
    users = [row for row in updates if row["resource_type"] == "USER"]

    assert not any("resource_user_email" in row for row in groups)
    assert any("resource_user_email" not in row for row in users)
    assert {"SUCCESS", "FAILURE", "ERROR"} == {row["status"] for row in updates}
    assert all(("error_description" in row) == (row["status"] != "SUCCESS") for row in updates)
    methods = Counter("http_method" in row for row in updates)
    assert methods[True] > methods[False] > 0
    assert any('"password":' in row["request_body"] for row in users)


def test_some_request_bodies_are_no_json(updates: list[dict[str, Any]]) -> None:
    broken = 0
    for row in updates:
        try:
            orjson.loads(row["request_body"])
        except orjson.JSONDecodeError:
            broken += 1

    assert 0 < broken < len(updates) / 2


def test_without_a_provisioning_provider_nothing_is_provisioned() -> None:
    assert provisioning_rows(found_company(1, "a"), [], 1, "a", SECOND, 10) == []


@given(st.integers(0, 4_000_000_000_000_000))
def test_a_moment_survives_being_written(time_us: int) -> None:
    assert parse_moment(format_moment(time_us)) == time_us


@pytest.mark.parametrize("text", ["", "yesterday", "2026-07-02", "2026-07-02T15:03:00", "1e9"])
def test_what_is_no_rfc_3339_date_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_moment(text)
