"""Sample rows of the streams that are off unless they are named; see ``testing.samples``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
# Everything that separates, ends or turns text in some format or terminal.
HOSTILE = 'x|y=z\\n"<b>\u202ea\u2028b\r\nCEF:0|fake\tend \x00\x7f\x85'

_API = f"/accounts/{_ACCOUNT}"


def _activity(kind: str, method: str, path: str, **more: Any) -> dict[str, Any]:
    """Return a row of the audit log; ``more`` replaces or extends its sections."""
    row: dict[str, Any] = {
        "id": "f174be97-19b1-40d6-954d-70cd5fbd52db",
        "account": {"id": _ACCOUNT, "name": "Acme"},
        "action": {
            "description": f"{kind.capitalize()} by API",
            "result": "success",
            "time": "2026-07-02T15:04:31Z",
            "type": kind,
        },
        "actor": {
            "id": "f6b5de0326bb5182b8a4840ee01ec774",
            "context": "dash",
            "email": "ann@example.com",
            "ip_address": "198.51.100.7",
            "type": "user",
        },
        "raw": {
            "cf_ray_id": "8e9b1c60ef9e1c9a",
            "method": method,
            "status_code": 200,
            "uri": f"{_API}{path}",
            "user_agent": "Mozilla/5.0",
        },
        "resource": {
            "id": "0a1b2c3d-0a1b-4c2d-8e3f-0a1b2c3d4e5f",
            "product": "access",
            "type": "access",
            "scope": "accounts",
            "request": {},
            "response": {},
        },
    }
    changes = {
        at: row[at] | one if isinstance(one, dict) and at in row else one
        for at, one in more.items()
    }
    return row | changes


_SECRET = "Tr0ub4dor&3"  # noqa: S105 - of nobody  # nosec B105
_THING = "/0a1b2c3d-0a1b-4c2d-8e3f-0a1b2c3d4e5f"
_BY_TOKEN = {
    "email": "",
    "type": "account",
    "context": "api_token",
    "token_id": "ed17574386854bf78a67040be0a770b0",  # nosec B105 - an id
    "token_name": "terraform",  # nosec B105 - a name
}
ACCOUNT_AUDIT: Mapping[str, Mapping[str, Any]] = {
    "audit_policy_update": _activity(
        "update",
        "PUT",
        f"/access/apps{_THING}/policies{_THING}?x=1",
        action={"description": "Update an Access policy"},
        resource={"request": {"decision": "bypass", "include": [{"everyone": {}}]}},
    ),
    "audit_application_create": _activity(
        "create",
        "POST",
        "/access/apps",
        actor=_BY_TOKEN | {"ip_address": "2001:db8::7"},
        resource={"request": {"name": "Kibana", "domain": "kibana.example.com"}},
    ),
    "audit_service_token_secret": _activity(
        "create",
        "POST",
        "/access/service_tokens",
        resource={"response": {"client_id": "e4.access", "client_secret": _SECRET}},
    ),
    "audit_api_token_secret": _activity(
        "create",
        "POST",
        "/tokens",
        resource={"response": {"id": "ed17", "name": "ci", "value": _SECRET}},
    ),
    "audit_identity_provider_delete": _activity(
        "delete", "DELETE", f"/access/identity_providers{_THING}"
    ),
    "audit_logpush_update": _activity(
        "update",
        "PUT",
        "/logpush/jobs/17",
        resource={"request": {"destination_conf": "s3://b/x?secret-access-key=Tr0ub4dor"}},
    ),
    "audit_member_create": _activity(
        "create",
        "POST",
        "/members",
        resource={"id": "4536bcfad5faccb111b47003c79917fa", "product": "members"},
        zone=None,
    ),
    "audit_failure": _activity(
        "update",
        "PUT",
        f"/access/groups{_THING}",
        action={"result": "failure"},
        raw={"status_code": 503},
        zone={"id": "9a7806061c88ada191ed06f989cc3dac", "name": "example.com"},
    ),
    "audit_login": _activity(
        "create",
        "",
        "",
        action={"description": "SSO_LOGIN"},
        raw={"uri": "", "method": "", "status_code": None},
        resource={"id": "", "product": "sso", "type": "", "scope": {}},
    ),
    "audit_login_failed": _activity(
        "create", "POST", "/login", action={"description": "LOGIN", "result": "failure"}
    ),
    "audit_system": {
        "id": "1be50aa5-2ebd-41b8-b1b6-7d1ef1bb2f0c",
        "action": {"result": "success", "time": "2026-07-02T15:04:31.25Z", "type": "delete"},
        "actor": {"type": "system"},
        "raw": None,
        "resource": {"id": "e4", "product": "access", "type": "service_token"},
        "zone": None,
    },
    "audit_hostile": _activity(
        "update",
        HOSTILE,
        HOSTILE,
        id=HOSTILE,
        action={"description": HOSTILE, "result": HOSTILE, "type": HOSTILE},
        actor={"email": HOSTILE, "id": HOSTILE, "ip_address": HOSTILE, "type": HOSTILE},
        resource={"id": HOSTILE, "product": HOSTILE, "type": HOSTILE, "request": HOSTILE},
        new_key=HOSTILE,
    ),
    "audit_odd": {
        "id": 17,
        "account": "acme",
        "action": [],
        "actor": {"id": None, "email": 3, "new": {"a": 1}},
        "raw": {"status_code": "200", "method": 1},
        "resource": {"id": 5, "scope": {"x": 1}, "request": 17},
        "zone": "example.com",
    },
}
_REQUEST = {
    "knock_request_id": "7b0c1d52-4a5b-4c3e-9a63-6c1c6b0f5a11",
    "requester_email": "ann@example.com",
    "app_aud": "968a35b8def045de9d2ff65d514fa76c",
    "app_hostname": "payroll.example.com",
    "purpose_justification": "incident 4711",
    "created_at": "2026-07-02T15:00:00Z",
}
_ANN = {"actor_email": "ann@example.com", "actor_uuid": "b4bf51f2-c72b-50b1-a179-20b76a49b18b"}
_BOB = {"actor_email": "bob@example.com", "actor_uuid": "0cc175b9-c0f1-56b6-831c-399e269772661"}
_AT = {"timestamp": "2026-07-02T15:04:05Z", "success": True}


def _step(kind: str, **event: Any) -> dict[str, Any]:
    return {**_REQUEST, "event": {"type": kind, **_AT, **event}}


JIT_REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "jit_created": _step("CREATED", **_ANN, actor_idp="okta"),
    "jit_approved": _step("APPROVER_DECISION", **_BOB, decision_outcome="APPROVED"),
    "jit_denied": _step("APPROVER_DECISION", **_BOB, decision_outcome="DENIED"),
    "jit_committed": _step("COMMITTED", **_BOB, session_duration_seconds=3600),
    "jit_canceled": _step("CANCELED", **_ANN),
    "jit_login": _step("LOGIN_SUCCESS", **_ANN, ray_id="744927037ce06d68"),
    "jit_failed": _step("COMMITTED", **_BOB)
    | {"event": {"type": "COMMITTED", **_AT, "success": False}},
    "jit_hostile": {
        **dict.fromkeys(_REQUEST, HOSTILE),
        "event": {"type": HOSTILE, **_AT, "actor_email": HOSTILE, "ray_id": HOSTILE},
    },
    "jit_odd": {"knock_request_id": 17, "event": [1], "status": "PENDING"},
}
_GROUP: Mapping[str, Any] = {
    "datetime": "2026-07-02T15:03:01Z",
    "cfRayId": "744927037ce06d68",
    "appId": "968a35b8-2eb0-4b4e-8a3a-5b4c1c3c6a11",
    "isSuccessfulLogin": 1,
    "identityProvider": "nonidentity",
    "serviceTokenId": "",
    "ipAddress": "2001:db8::7",
    "country": "US",
    "userUuid": "",
    "approvingPolicyId": "",
    "mtlsStatus": "NONE",
    "mtlsCommonName": "",
    "mtlsCertSerialId": "",
    "deviceId": "",
    "hasExistingJWT": 0,
    "hasWarpEnabled": 0,
    "hasGatewayEnabled": 0,
    "sampleInterval": 1,
    "count": 1,
}
_TOKEN = {"serviceTokenId": "3f9b1c60-ef9e-4c9a-8e9b-1c60ef9e1c9a"}
_MTLS = {"mtlsStatus": "SUCCESS", "mtlsCommonName": "probe.example.com", "mtlsCertSerialId": "4d2"}
NON_IDENTITY_LOGINS: Mapping[str, Mapping[str, Any]] = {
    "group_service_token": {**_GROUP, **_TOKEN, "approvingPolicyId": "5d0b1f3a"},
    "group_service_token_refused": {**_GROUP, **_TOKEN, "isSuccessfulLogin": 0},
    "group_certificate": {**_GROUP, **_MTLS, "ipAddress": "198.51.100.7"},
    "group_nobody_refused": {**_GROUP, "isSuccessfulLogin": 0, "country": "T1"},
    "group_sampled": {**_GROUP, **_TOKEN, "count": 40, "sampleInterval": 10.5},
    "group_fewer_fields": {key: _GROUP[key] for key in ("datetime", "cfRayId", "count")},
    "group_hostile": {
        **_GROUP,
        **dict.fromkeys(("cfRayId", "appId", "serviceTokenId", "ipAddress", "country"), HOSTILE),
        "newDimension": HOSTILE,
    },
    "group_odd": {
        "datetime": 17,
        "ipAddress": "none",
        "isSuccessfulLogin": "1",
        "count": -1,
        "sampleInterval": "ten",
        "country": ["US"],
    },
}
