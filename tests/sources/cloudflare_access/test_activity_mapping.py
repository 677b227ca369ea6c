"""Rows of the audit log as activities: what was done to what, by whom, and what is hidden."""

from typing import Any

import orjson
import pytest

from forwarder.core.masking import MASK
from forwarder.core.schema import AdminActivity, Bodies
from forwarder.formats.cim import CimFormat
from forwarder.formats.templates import FormatConfig
from forwarder.sources.cloudflare_access.activity_mapping import (
    concerns_access,
    mask_audit,
    mask_step,
)
from forwarder.testing.samples import ROWS, event_of

S = "/accounts/023e105f4ecef8ad9ca31a8372d0c353"
ID = "0a1b2c3d-0a1b-4c2d-8e3f-0a1b2c3d4e5f"


def activity(row: dict[str, Any]) -> AdminActivity:
    found = event_of("account_audit", row)
    assert isinstance(found, AdminActivity)
    return found


def at(uri: str, **action: str) -> dict[str, Any]:
    return {"id": "1", "raw": {"uri": uri, "method": "put"}, "action": action}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/access/apps", "application"),
        (f"/access/apps/{ID}/revoke_tokens", "application"),
        (f"/access/apps/{ID}/policies/{ID}", "policy"),
        (f"/access/policies/{ID}?x=/access/groups", "policy"),
        (f"/access/groups/{ID}", "rule_group"),
        (f"/access/identity_providers/{ID}/refresh_scim_secret", "identity_provider"),
        (f"/access/service_tokens/{ID}/rotate", "service_token"),
        ("/access/organizations/revoke_user", "user"),
        ("/access/seats", "user"),
        ("/access/organizations", "organization"),
        ("/access/custom_pages", "access"),
        ("/members/1", "member"),
        ("/tokens", "api_token"),
        ("/logpush/jobs/1", "logpush_job"),
        ("/dns_records", ""),
    ],
)
def test_the_address_says_what_was_changed(path: str, kind: str) -> None:
    for scope in (S, "/zones/9a7806061c88ada191ed06f989cc3dac"):
        assert activity(at(f"{scope}{path}")).object == kind


@pytest.mark.parametrize(
    ("product", "kind", "expected"),
    [
        ("access", "service_token", "service_token"),
        ("Access", "Identity Provider", "identity_provider"),
        ("access", "policy", "policy"),
        ("gateway", "policy", ""),
        ("", "member", "member"),
        ("access", "something", ""),
    ],
)
def test_without_an_address_the_row_says_what_was_changed(
    product: str, kind: str, expected: str
) -> None:
    assert activity({"resource": {"product": product, "type": kind}}).object == expected


def test_an_operation_is_the_same_for_all_things_of_a_kind() -> None:
    found = {
        activity(at(f"{prefix}{S}/access/apps/{one}/policies?page=1")).operation
        for prefix in ("", "/client/v4", "https://api.cloudflare.com/client/v4")
        for one in (ID, "17", "bob@example.com", "F174BE9719B140D6954D70CD5FBD52DB")
    }

    assert found == {"PUT /accounts/{id}/access/apps/{id}/policies"}


@pytest.mark.parametrize(
    ("description", "kind", "expected"),
    [
        ("SSO_LOGIN", "create", "login"),
        ("Login", "", "login"),
        ("LOGIN_FAILURE", "view", "login"),
        ("User logout", "create", "logout"),
        ("Update login method", "update", "update"),
        ("Add Member", "Create", "create"),
        ("", "", ""),
    ],
)
def test_logins_and_changes_are_kept_apart(description: str, kind: str, expected: str) -> None:
    assert activity(at("/x", description=description, type=kind)).activity == expected


def test_whoever_did_it_is_named_as_well_as_the_row_can() -> None:
    users = [
        activity({"actor": actor}).user
        for actor in (
            {"email": "ann@example.com", "token_name": "ci", "id": "1"},
            {"token_name": "ci", "token_id": "2", "id": "1"},
            {"token_id": "2", "id": "1"},
            {"id": "1", "type": "user"},
            {"type": "system"},
            {},
        )
    ]

    assert users == ["ann@example.com", "ci", "2", "1", "system", ""]


@pytest.mark.parametrize(
    ("kind", "user"),
    [("CREATED", "ann@example.com"), ("APPROVER_DECISION", "u-2"), ("COMMITTED", "u-2")],
)
def test_an_approver_without_an_address_is_not_taken_for_the_requester(
    kind: str, user: str
) -> None:
    step = {"type": kind, "timestamp": "2026-01-01T00:00:00Z", "actor_uuid": "u-2"}
    row = {"knock_request_id": "r1", "requester_email": "ann@example.com", "event": step}
    found = event_of("jit_requests", row)

    assert isinstance(found, AdminActivity)
    assert (found.user, found.extra["requester_email"]) == (user, "ann@example.com")


@pytest.mark.parametrize(
    ("kind", "action"), [("view", "read"), ("", "unknown"), ("delete", "deleted")]
)
def test_cim_calls_nothing_modified_that_was_only_read(kind: str, action: str) -> None:
    event = activity(at("/access/apps", type=kind))

    assert orjson.loads(CimFormat(FormatConfig()).render(event))["action"] == action


def test_nothing_of_a_row_is_lost() -> None:
    row = {
        "id": 17,
        "action": {"type": "update", "new": 1},
        "actor": {"email": 3, "ip_address": "here"},
        "raw": {"status_code": "200"},
        "resource": {"scope": {"x": 1}, "value": [1]},
        "zone": "example.com",
        "account": None,
        "new": {"a": 1},
    }

    found = activity(row)

    assert found.extra == {
        "id": 17,
        "action": {"new": 1},
        "actor": {"email": 3, "ip_address": "here"},
        "raw": {"status_code": "200"},
        "resource": {"scope": {"x": 1}, "value": [1]},
        "zone": "example.com",
        "new": {"a": 1},
    }
    assert {"time", "id", "raw.status_code", "actor.ip_address"} <= set(found.quality)


@pytest.mark.parametrize("status", [-1, 1000, 2**64 - 1, True])
def test_a_number_that_is_no_status_is_kept_aside(status: int) -> None:
    found = activity({**ROWS["account_audit"]["audit_system"], "raw": {"status_code": status}})

    assert (found.status_code, found.extra["raw"]) == (None, {"status_code": status})
    assert "raw.status_code" in found.quality


def test_a_complete_row_has_no_fault() -> None:
    for name in ("audit_policy_update", "audit_member_create", "audit_failure", "audit_system"):
        found = activity(dict(ROWS["account_audit"][name]))
        assert (found.quality, found.extra) == ((), {}), name


@pytest.mark.parametrize(
    ("path", "body", "hidden"),
    [
        ("/access/service_tokens", {"client_id": "a", "client_secret": "s3"}, "client_secret"),
        ("/access/identity_providers", {"config": {"client_secret": "s3"}}, "client_secret"),
        ("/tokens", {"id": "a", "value": "s3"}, "value"),
        ("/cfd_tunnel", {"tunnel_secret": "s3"}, "tunnel_secret"),
        ("/x", {"certificate": "c", "private_key": "s3"}, "private_key"),
        ("/logpush/jobs", {"destination_conf": "s3://b?key=s3"}, "destination_conf"),
        ("/x", [{"destination_conf": "https://x?header_A=s3"}], "destination_conf"),
        ("/tokens/1/value", "s3", ""),
        ("/cfd_tunnel/1/token", "s3", ""),
        ("/x", '{"password":"s3"}', "password"),
        ("/cfd_tunnel/1/token", {"result": "s3", "success": True}, "success"),
        ("/tokens", {"body": '{"result":{"value":"s3"}}'}, "value"),
        ("/logpush/jobs", {"job": '{"destination_conf":"https://x?header_A=s3"}'}, "x?"),
        ("/logpush/jobs", {"destination_conf": "https://u:s3@x/y"}, "@x/y"),
    ],
)
@pytest.mark.parametrize("side", ["request", "response"])
def test_secrets_of_bodies_are_masked(path: str, body: Any, hidden: str, side: str) -> None:
    row = {"raw": {"uri": f"{S}{path}"}, "resource": {"id": "1", side: body}}

    masked = mask_audit(row)
    text = str(masked["resource"][side])

    assert "s3'" not in text.replace("s3://", "")
    assert "=s3" not in text
    assert text != "s3"
    assert MASK in text
    assert hidden in text
    assert mask_audit(masked) == masked


@pytest.mark.parametrize(
    "given",
    [
        *({"client_secret": "s3"}, {"new": {"api_key": "s3"}}, {"actor": {"password": "s3"}}),
        *(
            {"account": {"x": [{"secret": "s3"}]}},
            {"raw": [{"token": "s3"}]},
            {"id": {"pin": "s3"}},
        ),
        {"action": {"description": "GET https://h.example/?api_token=s3"}},
        {"actor": '{"password":"s3"}'},
        {"resource": {"type": "api_token", "scope": {"token": "s3"}, "value": {"psk": "s3"}}},
        {"resource": [{"request": {"client_secret": "s3"}}]},
        {"raw": {"uri": "https://u:s3@h.example/x", "headers": {"X-Auth-Key": "s3"}}},
    ],
)
def test_no_place_of_a_row_hides_a_secret(given: dict[str, Any]) -> None:
    masked = mask_audit(given)

    assert "s3" not in str(masked)
    assert "s3" not in str(activity(given))
    assert mask_audit(masked) is masked


def test_what_a_token_is_called_is_no_secret() -> None:
    row = {
        "actor": {"token_id": "t1", "token_name": "ci token", "type": "account"},
        "resource": {"id": "r1", "type": "api_token", "product": "tokens", "scope": "user"},
    }

    assert mask_audit(row) is row


@pytest.mark.parametrize("where", ["purpose_justification", "client_secret", "event"])
def test_a_step_holds_no_secret(where: str) -> None:
    secret = {"client_secret": "s3"} if where == "event" else "see https://h.example/?token=s3"
    row = {"event": {"type": "CREATED", "timestamp": "2026-01-01T00:00:00Z"}, where: secret}
    masked = mask_step(row)

    assert "s3" not in str(masked)
    assert mask_step(masked) is masked


def test_the_value_of_a_setting_is_no_secret() -> None:
    row = {"raw": {"uri": f"{S}/access/apps"}, "resource": {"request": {"value": "on"}}}

    assert mask_audit(row) is row


def test_a_sink_that_wants_no_bodies_gets_none() -> None:
    whole = activity(dict(ROWS["account_audit"]["audit_policy_update"]))

    shown = whole.showing(Bodies.NAMES)

    assert "bypass" in whole.request_body
    assert "bypass" not in str(shown)
    assert "bypass" in str(whole.showing(Bodies.WHOLE))


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (at(f"{S}/access/apps"), True),
        (at(f"{S}/gateway/rules"), True),
        (at(f"{S}/members"), True),
        (at(f"{S}/logpush/jobs"), True),
        (at("", description="SSO_LOGIN"), True),
        (at(f"{S}/dns_records"), False),
        (at(f"{S}/dns_records/access"), True),
        ({"resource": {"product": "Zero Trust"}}, True),
        ({"resource": {"product": "workers"}}, False),
        ({"resource": {"product": "workers", "type": "access_policy"}}, True),
        ({"raw": None, "resource": {}}, True),
        ({}, True),
    ],
)
def test_what_concerns_access_is_kept_and_what_says_nothing(
    row: dict[str, Any],
    kept: bool,  # noqa: FBT001 - a case
) -> None:
    assert concerns_access(row) is kept


def test_a_token_in_the_address_of_a_request_is_masked() -> None:
    row = {"id": "a", "raw": {"uri": "/accounts/1/access?x=1&token=the-secret", "method": "GET"}}
    masked = mask_audit(row)

    assert masked["raw"]["uri"] == "/accounts/1/access?x=1&token=**********"
    assert mask_audit(masked) is masked
