"""Rows as Cloudflare gives them, reproducible, with the spread of a company of some thousands."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from random import Random
from typing import Any

from forwarder.core.timing import format_seconds

SEED = 1
USERS, APPS, NETWORKS = 4000, 120, 6000
ROWS_A_SECOND = 50
_SECOND_US = 1_000_000
_COUNTRIES = ("US", "DE", "GB", "FR", "IN", "BR", "JP", "us")
_CONNECTIONS = ("azureAD", "okta", "google-apps", "onetimepin", "saml")


def rows(count: int, until_us: int) -> Iterator[tuple[int, bytes]]:
    """Give ``count`` logins as (second since 1970, JSON), oldest first, up to ``until_us``.

    Fifty rows share a second; ray ids are all different; every twentieth login is refused.
    """
    rng = Random(SEED)
    users = [
        (f"user{i}@example.com", str(uuid.UUID(int=rng.getrandbits(128)))) for i in range(USERS)
    ]
    apps = [
        (f"app{i}.example.com/admin", f"Internal app {i}", str(uuid.UUID(int=rng.getrandbits(128))))
        for i in range(APPS)
    ]
    ips = [f"203.0.{rng.randrange(256)}.{rng.randrange(256)}" for _ in range(NETWORKS)]
    first = until_us // _SECOND_US - count // ROWS_A_SECOND
    for index in range(count):
        second = first + index // ROWS_A_SECOND
        email, user_id = rng.choice(users)
        domain, name, app_uid = rng.choice(apps)
        yield (
            second,
            (
                f'{{"created_at":"{format_seconds(second * _SECOND_US)}","user_email":"{email}",'
                f'"user_id":"{user_id}","ip_address":"{rng.choice(ips)}",'
                f'"country":"{rng.choice(_COUNTRIES)}","app_domain":"{domain}",'
                f'"app_name":"{name}","app_uid":"{app_uid}","app_type":"self_hosted",'
                f'"action":"login","allowed":{"false" if rng.random() < 0.05 else "true"},'  # noqa: PLR2004
                f'"connection":"{rng.choice(_CONNECTIONS)}","ray_id":"{rng.getrandbits(64):016x}"}}'
            ).encode(),
        )


PROVIDER = "df7e2b5f-02b7-4d9d-af26-8d1988fca630"
"""The identity provider of all changes."""
_CORE = "urn:ietf:params:scim:schemas:core:2.0:"
_ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
_PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


def changes(count: int, until_us: int) -> Iterator[tuple[int, bytes]]:
    """Give ``count`` SCIM changes as ``rows`` gives logins: half of users, half of groups.

    Bodies are those of a first provisioning, 1 kB on average: whole users, groups with up to 24
    members, members that come and go, users that are switched off.
    """
    rng = Random(SEED)
    first = until_us // _SECOND_US - count // ROWS_A_SECOND
    for index in range(count):
        second = first + index // ROWS_A_SECOND
        about = _of_group(rng) if index % 2 else _of_user(rng)
        row = {
            "logged_at": format_seconds(second * _SECOND_US),
            "cf_resource_id": _id(rng),
            "idp_id": PROVIDER,
            "idp_resource_id": _id(rng),
            "status": "SUCCESS" if rng.randrange(20) else "FAILURE",
            **about,
        }
        yield second, json.dumps(row, separators=(",", ":")).encode()


def _of_user(rng: Random) -> dict[str, Any]:
    name = f"user{rng.randrange(USERS)}"
    email = f"{name}@example.com"
    kind, method = {"resource_type": "USER", "resource_user_email": email}, "PATCH"
    body: dict[str, Any] = _patch("Replace", "active", value="False")
    if rng.randrange(4):
        method = rng.choice(("POST", "PUT"))
        body = {
            "schemas": [f"{_CORE}User", _ENTERPRISE],
            "externalId": _id(rng),
            "userName": email,
            "active": True,
            "displayName": f"Given {name}",
            "name": {"givenName": "Given", "familyName": name, "formatted": f"Given {name}"},
            "emails": [{"value": email, "type": "work", "primary": True}],
            "phoneNumbers": [{"value": f"+1 555 {rng.randrange(10**6)}", "type": "work"}],
            "addresses": [
                {
                    "type": "work",
                    "streetAddress": f"{rng.randrange(999)} Main Street",
                    "locality": "Springfield",
                    "postalCode": str(rng.randrange(99_999)),
                    "country": rng.choice(_COUNTRIES),
                }
            ],
            "title": "Engineer",
            "preferredLanguage": "en-US",
            _ENTERPRISE: {"employeeNumber": str(rng.randrange(10**6)), "department": "Sales"},
        }
    return {**kind, "http_method": method, "request_body": json.dumps(body, separators=(",", ":"))}


def _of_group(rng: Random) -> dict[str, Any]:
    name = f"Team {rng.randrange(USERS)}"
    members = [
        {"value": _id(rng), "display": f"user{user}@example.com"}
        for user in rng.sample(range(USERS), rng.randrange(1, 25))
    ]
    ids = [{"value": member["value"]} for member in members]
    method, body = rng.choice(
        (
            ("PUT", {"schemas": [f"{_CORE}Group"], "displayName": name, "members": members}),
            ("PATCH", _patch("add", "members", value=members)),
            ("PATCH", _patch("Add", "members", value=ids)),
            ("PATCH", _patch("remove", f'members[value eq "{members[0]["value"]}"]')),
        )
    )
    return {
        "resource_type": "GROUP",
        "resource_group_name": name,
        "http_method": method,
        "request_body": json.dumps(body, separators=(",", ":")),
    }


def _patch(operation: str, path: str, **value: Any) -> dict[str, Any]:
    return {"schemas": [_PATCH], "Operations": [{"op": operation, "path": path, **value}]}


def _id(rng: Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128)))
