"""What `query:` of a stream may say, and what becomes of it."""

from typing import Any

import pytest
from pydantic import ValidationError

from forwarder.sources.cloudflare_access.account import FILTERS, AccountConfig, parameters, warnings

UUID = "023e105f-4ece-48ad-9ca3-1a8372d0c353"


def test_values_become_request_parameters_in_a_fixed_order() -> None:
    query: dict[str, str | bool] = {
        "emailOp": "contains",
        "email": "a+b@example.com",
        "allowed": False,
        "allowedOp": "eq",
    }

    assert parameters("access_requests", query) == (
        ("allowed", "false"),
        ("allowedOp", "eq"),
        ("email", "a+b@example.com"),
        ("emailOp", "contains"),
    )


def test_a_list_becomes_a_repeated_parameter() -> None:
    query: dict[str, str | list[str]] = {"status": ["FAILURE", "SUCCESS"], "resource_type": "USER"}

    assert parameters("scim_updates", query) == (
        ("resource_type", "USER"),
        ("status", "FAILURE"),
        ("status", "SUCCESS"),
    )


@pytest.mark.parametrize(
    ("stream", "query", "said"),
    [
        ("access_requests", {"emial": "a@b.c"}, "did you mean email?"),
        ("access_requests", {"zzz": 1}, "there are email, email_exact"),
        ("access_requests", {"since": "2026-01-01T00:00:00Z"}, "set by the forwarder itself"),
        ("access_requests", {"fields": "ray_id"}, "set by the forwarder itself"),
        ("access_requests", {"per_page": 5}, "set by the forwarder itself"),
        ("scim_updates", {"idp_id": UUID}, "set by the forwarder itself"),
        ("access_requests", {"emailOp": "eq"}, "email, which is missing"),
        ("access_requests", {"email_exact": True}, "email, which is missing"),
        ("access_requests", {"email": "a@b.c", "emailOp": "like"}, "one of eq, neq, contains"),
        ("access_requests", {"app_uid": "x", "app_uidOp": "contains"}, "one of eq, neq"),
        ("access_requests", {"email": ["a@b.c", "d@e.f"]}, "one value, not 2"),
        ("access_requests", {"user_id": "me"}, "a UUID"),
        ("access_requests", {"country_code": "USA"}, "two letters"),
        ("access_requests", {"allowed": "yes"}, "true or false"),
        ("access_requests", {"email": " "}, "a text of 1 to 512 characters"),
        ("access_requests", {"email": "a\nb"}, "a text of 1 to 512 characters"),
        ("scim_updates", {"status": "ERROR"}, "one of FAILURE, SUCCESS"),
        ("scim_updates", {"status": []}, "the list is empty"),
        ("scim_updates", {"email": "a@b.c"}, "no filter of scim_updates"),
    ],
)
def test_what_cloudflare_does_not_document_is_refused(
    stream: str, query: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        parameters(stream, query)


def test_the_settings_refuse_what_the_filters_refuse() -> None:
    account = {
        "account_id": "0" * 32,
        "api_token": "token",
        "streams": {"scim_updates": {"query": {"limit": 10}}},
    }

    with pytest.raises(ValidationError, match="limit is set by the forwarder itself"):
        AccountConfig.model_validate(account)


def test_a_filter_warns_that_what_it_hides_is_not_counted() -> None:
    (told,) = warnings("scim_updates", {"status": "FAILURE"})

    assert "status" in told
    assert "cannot be counted" in told


def test_the_deprecated_user_id_is_taken_with_a_warning() -> None:
    query = {"user_id": UUID, "user_idOp": "neq"}

    assert dict(parameters("access_requests", query)) == query
    assert any("no longer applies" in told for told in warnings("access_requests", query))


def test_no_filter_no_warning() -> None:
    assert warnings("access_requests", {}) == []
    assert parameters("access_requests", {}) == ()


def test_every_operator_names_a_filter_that_exists() -> None:
    for filters in FILTERS.values():
        for found in filters.values():
            assert not found.operates_on or found.operates_on in filters
