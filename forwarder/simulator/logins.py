"""Authentication traffic: the rows of `access_requests` of one second, drawn from a seed.

The oddities are those seen on the wire: times with and without fraction, ties, several rows (one a
sub-resource) under one ray id, service tokens where an e-mail address is expected, countries in
either case, empty addresses, rows that lack a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from forwarder.simulator import vocabulary
from forwarder.simulator.company import Company, Person, stable_id
from forwarder.simulator.draws import seeded, whole_number
from forwarder.simulator.moments import format_moment

SERVICE_SHARE = 0.12
DENIED_SHARE = 0.06
OUTSIDER_SHARE = 0.02
LOGOUT_SHARE = 0.05
CLUSTER_SHARE = 0.1
ROWS_PER_LOGIN = 1 + CLUSTER_SHARE * 2
"""On average; a cluster adds one to three rows."""
ODD_SHARE = 0.03
ODD_KEYS = ("country", "app_name", "user_id", "app_type", "ray_id", "connection")

TimedRow = tuple[int, dict[str, Any]]
"""Microseconds since the epoch, and the row."""


def login_rows(
    company: Company, seed: int, account: str, second: int, rate: float
) -> list[TimedRow]:
    """Return the rows whose time lies in `second`, in the order of time.

    Depends on nothing but the arguments. `rate` is the average number of rows a second.
    """
    draw = seeded(seed, account, "logins", second)
    logins = whole_number(draw, rate / ROWS_PER_LOGIN)
    rows = [row for _ in range(logins) for row in _login(company, draw, second)]
    return sorted(rows, key=_time_of)


def moment_in(draw: Random, second: int) -> tuple[int, str]:
    """Return a time within `second`: microseconds, and the text in one of several precisions."""
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
    if draw.random() < CLUSTER_SHARE:
        host = app.domain.partition("/")[0]
        for asset in draw.sample(vocabulary.ASSETS, draw.randint(1, 3)):
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
    key = draw.choice((*ODD_KEYS, "user_email"))
    if key == "user_email":
        return {**row, "user_email": ""}
    return {name: value for name, value in row.items() if name != key}
