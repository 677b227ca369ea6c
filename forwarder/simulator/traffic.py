"""Generated rows of one second, drawn from a seed: logins and provisioning.

Logins have the oddities seen on the wire: times with and without fraction, ties, several rows (one
a sub-resource) under one ray id, service tokens in place of an e-mail address, countries in either
case, empty addresses, rows that lack a key. Provisioning has those seen or documented: the method
under `http_method` (sometimes under the documented `request_method`), group rows without an e-mail
address, failures with a description, request bodies that hold passwords or are invalid JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import orjson

from forwarder.simulator.company import (
    ASSETS,
    GROUPS,
    SCIM_ERRORS,
    Company,
    Person,
    seeded,
    stable_id,
    whole_number,
)
from forwarder.simulator.rows import TimedRow, format_moment

SERVICE_SHARE = 0.12
DENIED_SHARE = 0.06
OUTSIDER_SHARE = 0.02
LOGOUT_SHARE = 0.05
CLUSTER_SHARE = 0.1
ROWS_PER_LOGIN = 1 + CLUSTER_SHARE * 2
"""On average; a cluster adds one to three rows."""
ODD_SHARE = 0.03
ODD_KEYS = ("country", "app_name", "user_id", "app_type", "ray_id", "connection")


def login_rows(
    company: Company, seed: int, account: str, second: int, rate: float
) -> list[TimedRow]:
    """Return the rows of one epoch second, in order of time.

    The same arguments return the same rows. `rate` is the average number of rows a second.
    """
    # A generator for each second: any second can be made without those before it.
    draw = seeded(seed, account, "logins", second)
    logins = whole_number(draw, rate / ROWS_PER_LOGIN)
    rows = [row for _ in range(logins) for row in _login(company, draw, second)]
    return sorted(rows, key=_time_of)


def moment_in(draw: Random, second: int) -> tuple[int, str]:
    """Return a time within `second`: microseconds, and its text in one of several precisions."""
    # The real API cuts trailing zeros: most times have no fraction, some have 3 to 6 digits.
    digits = draw.choice((0, 0, 0, 3, 5, 6))
    fraction = draw.randrange(10**digits) * 10 ** (6 - digits)
    time_us = second * 1_000_000 + fraction
    return time_us, format_moment(time_us, digits)


def _time_of(row: TimedRow) -> int:
    return row[0]


def _login(company: Company, draw: Random, second: int) -> Iterator[TimedRow]:
    time_us, created_at = moment_in(draw, second)
    app = draw.choice(company.applications)
    who = _service(company, draw) if draw.random() < SERVICE_SHARE else _human(company, draw)
    row = {
        "created_at": created_at,
        **who,
        "app_domain": app.domain,
        "app_name": app.name,
        "app_uid": app.uid,
        "app_type": app.type,
        "ray_id": f"{draw.getrandbits(64):016x}",
    }
    yield time_us, _made_odd(draw, row) if draw.random() < ODD_SHARE else row
    # Loading one page of an application logs several rows under one ray id.
    if draw.random() < CLUSTER_SHARE:
        host = app.domain.partition("/")[0]
        for asset in draw.sample(ASSETS, draw.randint(1, 3)):
            yield time_us, {**row, "app_domain": f"{host}/assets/{asset}"}


def _service(company: Company, draw: Random) -> dict[str, Any]:
    number = draw.randrange(len(company.service_tokens))
    return {
        "user_email": company.service_tokens[number],
        "user_id": "",
        "ip_address": f"2001:db8:5e::{number + 1:x}",
        "country": "US",
        "action": "login",
        "allowed": True,
        "connection": "nonidentity",
    }


def _human(company: Company, draw: Random) -> dict[str, Any]:
    person = draw.choice(company.people)
    # The real log has country codes in either case.
    country = person.country.lower() if draw.random() < 0.15 else person.country  # noqa: PLR2004
    email, user_id, connection = _identity(company, draw, person)
    outsider = email != person.email
    denied = outsider or draw.random() < DENIED_SHARE
    return {
        "user_email": email,
        "user_id": user_id,
        "ip_address": draw.choice(person.addresses),
        "country": country,
        "action": "logout" if not denied and draw.random() < LOGOUT_SHARE else "login",
        "allowed": not denied,
        "connection": connection,
    }


def _identity(company: Company, draw: Random, person: Person) -> tuple[str, str, str]:
    if draw.random() >= OUTSIDER_SHARE:
        return person.email, person.id, person.connection
    email = person.email.replace(company.domain, "mail.example.net")
    return email, stable_id("outsider", email), "onetimepin"


def _made_odd(draw: Random, row: dict[str, Any]) -> dict[str, Any]:
    # No key is guaranteed: a mapping that needs one would fail on such a row.
    key = draw.choice((*ODD_KEYS, "user_email"))
    if key == "user_email":
        return {**row, "user_email": ""}
    return {name: value for name, value in row.items() if name != key}


GROUP_SHARE = 0.3
FAILURE_SHARE = 0.08
PASSWORD_SHARE = 0.4
SEEN_METHOD_SHARE = 0.9
ODD_CHANGE_SHARE = 0.05
ODD_BODIES = ("", "{}", "not json", '{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"', "[")
USER_SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP_SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH_SCHEMA = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


def provisioning_rows(
    company: Company, idp_ids: Sequence[str], seed: int, account: str, second: int, rate: float
) -> list[TimedRow]:
    """Return the rows of one epoch second, in order of time.

    The same arguments return the same rows. `idp_ids` are the providers that provision now; without
    any there are no rows. `rate` is the average number of rows a second.
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
    odd = draw.random() < ODD_CHANGE_SHARE
    row = {
        "logged_at": logged_at,
        "idp_id": draw.choice(idp_ids),
        "resource_type": "GROUP" if is_group else "USER",
        # The documentation names `request_method`; real rows have `http_method`.
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
    # `ERROR` is not documented: the list of statuses may grow.
    status = "ERROR" if draw.random() < FAILURE_SHARE else "FAILURE"
    return {"status": status, "error_description": draw.choice(SCIM_ERRORS)}


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
    # Some directories send passwords in clear; the forwarder must never pass one on.
    if draw.random() < PASSWORD_SHARE:
        resource["password"] = f"pw-{draw.getrandbits(48):012x}"
    return resource


def _deactivation(draw: Random) -> dict[str, Any]:
    operation = {"op": "replace", "path": "active", "value": draw.random() < 0.5}  # noqa: PLR2004
    return {"schemas": [PATCH_SCHEMA], "Operations": [operation]}


def _group(company: Company, draw: Random) -> tuple[str, str, dict[str, str]]:
    group = draw.choice(GROUPS)
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
