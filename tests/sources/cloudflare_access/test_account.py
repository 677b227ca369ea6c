"""The settings of an account: what is taken, what is refused, and what is never shown."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from forwarder.sources.cloudflare_access.account import AccountConfig

ID = "023e105f4ecef8ad9ca31a8372d0c353"
GIVEN = {"account_id": ID, "api_token": "s3cret-token"}


def account(**given: Any) -> AccountConfig:
    return AccountConfig.model_validate({**GIVEN, **given})


def test_an_id_and_a_token_are_enough() -> None:
    config = account()
    settings = config.model_dump()
    logins, scim = settings["streams"]["access_requests"], settings["streams"]["scim_updates"]

    assert (config.label, config.retention) == (ID, 86_400)
    assert settings["rate_limit"] == {"requests": 1200, "per": 300, "share": 0.8}
    assert (logins["poll_interval"], scim["poll_interval"]) == (10, 30)
    assert logins["reconcile"] == scim["reconcile"] == (600, 3600, 72_000)
    assert scim["identity_providers"] == "auto"


@pytest.mark.parametrize("empty", [{}, None])
def test_a_stream_that_is_named_is_on_and_one_left_out_is_off(empty: Any) -> None:
    streams = account(streams={"scim_updates": empty}).streams

    assert streams.scim_updates
    assert streams.access_requests is None


@pytest.mark.parametrize("off", ["off", False, None])
def test_off_is_what_yaml_makes_of_it(off: Any) -> None:
    assert account(rate_limit=off).rate_limit is None


def test_no_secret_shows(tmp_path: Path) -> None:
    by_file = {"account_id": ID, "api_token_file": str(tmp_path / "token")}

    for config in (account(), AccountConfig.model_validate(by_file)):
        assert "s3cret" not in f"{config!r}{config}{config.model_dump_json()}"


def test_ages_of_reconciliation_are_put_in_order() -> None:
    streams = {"access_requests": {"reconcile": ["1h", "10m", "1h"]}}

    config = account(streams=streams).streams.access_requests

    assert config
    assert config.reconcile == (600, 3600)


def test_what_may_be_written_differently_means_the_same() -> None:
    config = account(account_id=ID.upper(), api_url="https://api.example/v4/", name="acme")

    assert (config.account_id, config.api_url, config.label) == (
        ID,
        "https://api.example/v4",
        "acme",
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"account_id": "acme"}, "32 hexadecimal digits"),
        ({"api_token": None}, "api_token is missing"),
        ({"email": "a@b.c"}, "belong together"),
        ({"api_key": "k"}, "belong together"),
        ({"email": "a@b.c", "api_key": "k"}, "not both"),
        ({"api_token_file": "/run/secrets/t"}, "exclude each other"),
        ({"api_url": "ftp://api"}, "http or https"),
        ({"api_url": "https://user:pw@api"}, "no user and no password"),
        (
            {"streams": {}},
            "one of access_requests, scim_updates, account_audit, jit_requests, non_identity",
        ),
        ({"streams": {"access_requets": {}}}, "access_requets"),
        ({"streams": {"access_requests": {"page_size": 1001}}}, "less than or equal to 1000"),
        (
            {"streams": {"access_requests": {"poll_interval": "100ms"}}},
            "greater than or equal to 1",
        ),
        ({"streams": {"access_requests": {"overlap": "1s"}}}, "greater than or equal to 2"),
        ({"streams": {"access_requests": {"reconcile": [0]}}}, "greater than 0"),
        ({"streams": {"scim_updates": {"identity_providers": []}}}, "at least one id"),
        ({"streams": {"scim_updates": {"identity_providers": "all"}}}, "auto"),
        ({"rate_limit": {"share": 0}}, "greater than 0"),
        ({"rate_limit": {"share": 1.5}}, "less than or equal to 1"),
        ({"retention": 0}, "greater than 0"),
        ({"retention": "soon"}, "is not a duration"),
    ],
)
def test_what_cannot_work_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        account(**given)


def test_every_setting_says_what_it_is_for() -> None:
    found = AccountConfig.model_json_schema()

    for model in (found, *found["$defs"].values()):
        for name, field in model["properties"].items():
            assert field.get("description"), name
