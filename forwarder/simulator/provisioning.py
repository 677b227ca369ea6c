"""Provisioning traffic: the rows of `scim/updates` of one second, drawn from a seed.

The oddities are those seen or documented: the method under `http_method` (sometimes under the
documented `request_method`), group rows without an e-mail address, failures with a description,
request bodies that hold passwords or are no JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import orjson

from forwarder.simulator import vocabulary
from forwarder.simulator.company import Company, Person, stable_id
from forwarder.simulator.draws import seeded, whole_number
from forwarder.simulator.logins import TimedRow, moment_in

GROUP_SHARE = 0.3
FAILURE_SHARE = 0.08
PASSWORD_SHARE = 0.4
SEEN_METHOD_SHARE = 0.9
ODD_SHARE = 0.05
ODD_BODIES = ("", "{}", "not json", '{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"', "[")
USER_SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP_SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH_SCHEMA = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


def provisioning_rows(
    company: Company, idp_ids: Sequence[str], seed: int, account: str, second: int, rate: float
) -> list[TimedRow]:
    """Return the rows whose time lies in `second`, in the order of time.

    Depends on nothing but the arguments; `idp_ids` are the providers that provision now, and
    without one there are no rows. `rate` is the average number of rows a second.
    """
    if not idp_ids:
        return []
    draw = seeded(seed, account, "scim", second)
    rows = [_update(company, idp_ids, draw, second) for _ in range(whole_number(draw, rate))]
    return sorted(rows, key=lambda row: row[0])


def _update(company: Company, idp_ids: Sequence[str], draw: Random, second: int) -> TimedRow:
    time_us, logged_at = moment_in(draw, second)
    is_group = draw.random() < GROUP_SHARE
    method, body, about = _group(company, draw) if is_group else _user(company, draw)
    odd = draw.random() < ODD_SHARE
    row = {
        "logged_at": logged_at,
        "idp_id": draw.choice(idp_ids),
        "resource_type": "GROUP" if is_group else "USER",
        "http_method" if draw.random() < SEEN_METHOD_SHARE else "request_method": method,
        "request_body": draw.choice(ODD_BODIES) if odd else body,
        **about,
        **_outcome(draw),
    }
    if odd and not is_group:
        del row["resource_user_email"]
    return time_us, row


def _outcome(draw: Random) -> dict[str, str]:
    if draw.random() >= FAILURE_SHARE:
        return {"status": "SUCCESS"}
    status = "ERROR" if draw.random() < FAILURE_SHARE else "FAILURE"
    return {"status": status, "error_description": draw.choice(vocabulary.SCIM_ERRORS)}


def _user(company: Company, draw: Random) -> tuple[str, str, dict[str, str]]:
    person = draw.choice(company.people)
    method = draw.choice(("POST", "PATCH", "PATCH", "PUT", "DELETE"))
    about = {
        "cf_resource_id": person.id,
        "idp_resource_id": stable_id("idp-user", person.id),
        "resource_user_email": person.email,
    }
    if method == "DELETE":
        return method, "", about
    content = _deactivation(draw) if method == "PATCH" else _user_resource(person, draw)
    return method, orjson.dumps(content).decode(), about


def _user_resource(person: Person, draw: Random) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "schemas": [USER_SCHEMA],
        "userName": person.email,
        "name": {"givenName": person.given, "familyName": person.family},
        "displayName": f"{person.given} {person.family}",
        "emails": [{"primary": True, "value": person.email, "type": "work"}],
        "active": True,
    }
    if draw.random() < PASSWORD_SHARE:
        resource["password"] = f"pw-{draw.getrandbits(48):012x}"
    return resource


def _deactivation(draw: Random) -> dict[str, Any]:
    operation = {"op": "replace", "path": "active", "value": draw.random() < 0.5}  # noqa: PLR2004
    return {"schemas": [PATCH_SCHEMA], "Operations": [operation]}


def _group(company: Company, draw: Random) -> tuple[str, str, dict[str, str]]:
    group = draw.choice(vocabulary.GROUPS)
    method = draw.choice(("POST", "PATCH", "PATCH", "PATCH", "DELETE"))
    about = {
        "cf_resource_id": stable_id(company.domain, "group", group),
        "idp_resource_id": stable_id("idp-group", company.domain, group),
        "resource_group_name": group,
    }
    if method == "DELETE":
        return method, "", about
    members = [{"value": person.id} for person in draw.sample(company.people, draw.randint(1, 4))]
    change = {"op": draw.choice(("add", "remove")), "path": "members", "value": members}
    content: dict[str, Any] = (
        {"schemas": [PATCH_SCHEMA], "Operations": [change]}
        if method == "PATCH"
        else {"schemas": [GROUP_SCHEMA], "displayName": group, "members": members}
    )
    return method, orjson.dumps(content).decode(), about
