"""Events that each detection must match, and events it must not: rows as Cloudflare sends them.

Whoever ships a detection for a SIEM tests it on these, rendered by the project's own formats:

    for case in cases().values():
        for example in case.match + case.silent:
            bodies = render(example, CimFormat(FormatConfig()))

What must match does so within one clock hour, or one day, because some engines count by the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, NamedTuple

import orjson

from forwarder.formats.pipeline import Pipeline
from forwarder.testing.samples import (
    ACCOUNT,
    ACCOUNT_ID,
    ACCOUNTS,
    LOGIN,
    NORMALISERS,
    SCIM,
    page_of,
)

START = datetime(2026, 7, 2, 15, tzinfo=UTC)
DAY = 24 * 60
"""Minutes."""
ADDED = '{"op":"add","path":"members","value":[{"value":"u-7","display":"bob@example.com"}]}'
REMOVED = '{"op":"remove","path":"members[value eq \\"u-7\\"]"}'
DISABLED = '{"op":"Replace","path":"active","value":"False"}'
_TOKEN = {
    "user_email": "e461d898a6b14a3f8f0d6f2a3c5b7e91.access",
    "user_id": None,
    "connection": "nonidentity",
}


class Row(NamedTuple):
    """A row of one stream."""

    stream: str
    row: Mapping[str, Any]


class Example(NamedTuple):
    """What happened, and its rows in the order in which they arrive."""

    name: str
    rows: list[Row]


class Case(NamedTuple):
    """Examples that a detection must match, and examples it must be silent about."""

    match: list[Example]
    silent: list[Example]


def render(example: Example, style: Any) -> list[bytes]:
    """Return what a sink with the format ``style`` is given for each row, in order."""
    pipeline = Pipeline(style, NORMALISERS, ACCOUNTS)
    return [
        event.body
        for stream, row in example.rows
        for event in pipeline(page_of(stream, [row])).events
    ]


class _Log:
    """Makes rows; each has a time in minutes after ``start``, and what differs from the usual."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._rays = count(0xA1CB_CD95_DA9A_0000)

    def _at(self, minutes: float) -> str:
        return (self._start + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def login(self, minutes: float, **changes: Any) -> Row:
        """Return an accepted login, of a page load of its own."""
        row = {**LOGIN, "created_at": self._at(minutes), "ray_id": f"{next(self._rays):x}"}
        return Row("access_requests", {**row, **changes})

    def refused(self, minutes: float, **changes: Any) -> Row:
        """Return a refused login, of a page load of its own."""
        return self.login(minutes, allowed=False, **changes)

    def token(self, minutes: float, **changes: Any) -> Row:
        """Return an accepted login of a service token."""
        return self.login(minutes, **{**_TOKEN, **changes})

    def user(self, minutes: float, method: str, body: str = "", **changes: Any) -> Row:
        """Return a change of a user; ``body`` of a PATCH is its operation."""
        named = {"resource_type": "USER", "resource_user_email": "ann@example.com"}
        return self._change(minutes, method, body, {**named, **changes})

    def group(self, minutes: float, method: str, body: str = "", **changes: Any) -> Row:
        """Return a change of a group; ``body`` of a PATCH is its operation."""
        named = {"resource_type": "GROUP", "resource_group_name": "Cloudflare Admins"}
        return self._change(minutes, method, body, {**named, **changes})

    def _change(self, minutes: float, method: str, body: str, changes: Mapping[str, Any]) -> Row:
        body = f'{{"Operations":[{body}]}}' if method == "PATCH" else body
        asked = {"http_method": method, "request_body": body}
        return Row("scim_updates", {**SCIM, "logged_at": self._at(minutes), **asked, **changes})

    def own(self, minutes: float, action: str, **changes: Any) -> Row:
        """Return an event of the forwarder's own."""
        about = {"account_id": ACCOUNT_ID, "account": ACCOUNT, "stream": "access_requests"}
        return Row("forwarder", {"event": action, "time": self._at(minutes), **about, **changes})


def _name(number: int) -> str:
    return f"user{number}@example.com"


def cases(start: datetime = START) -> dict[str, Case]:
    """Return the examples of each detection; those of days before ``start`` are history."""
    log = _Log(start)
    return {
        "brute_force_against_one_user": _brute_force(log),
        "spray_from_one_address": _spray(log),
        "first_login_from_country": _first_country(log),
        "first_login_of_service_token": _first_token(log),
        "refused_then_accepted": _refused_then_accepted(log),
        "login_after_disable": _login_after_disable(log),
        "disable_failed": _disable_failed(log),
        "bulk_deprovisioning": _bulk_deprovisioning(log),
        "group_admin_added": _group_admin_added(log),
        "tor_login": _tor_login(log),
        "login_at_two_places": _two_places(log),
        "idp_changed_for_user": _idp_changed(log),
        "forwarder_gap_or_silence": _gap(log),
        "login_from_unusual_country": _unusual_country(log),
        "service_token_at_two_addresses": _token_at_two_addresses(log),
    }


def _each(minutes: Iterable[float], make: Any, **changes: Any) -> list[Row]:
    return [make(minute, **changes) for minute in minutes]


def _brute_force(log: _Log) -> Case:
    tens = _each(range(0, 50, 5), log.refused)
    return Case(
        match=[
            Example("ten page loads are refused within the hour", tens),
            Example("the same rows arrive late, the last one first", tens[::-1]),
        ],
        silent=[
            Example("nine page loads are refused", _each(range(0, 45, 5), log.refused)),
            Example("one page load is twelve rows", _each(range(12), log.refused, ray_id="a1")),
            Example("ten page loads in ten hours", _each(range(0, 600, 60), log.refused)),
            Example("ten are let in", _each(range(0, 50, 5), log.login)),
            Example("a token has expired", _each(range(0, 60, 5), log.refused, **_TOKEN)),
            Example(
                "ten users, each once", [log.refused(n, user_email=_name(n)) for n in range(10)]
            ),
            Example(
                "nobody has said who it is",
                _each(range(12), log.refused, user_email="", user_id=None, connection="saml"),
            ),
        ],
    )


def _spray(log: _Log) -> Case:
    def refused(users: int, minutes: float, **changes: Any) -> list[Row]:
        return [
            log.refused(n * minutes, user_email=_name(n), user_id=f"u-{n}", **changes)
            for n in range(users)
        ]

    elsewhere = [log.refused(n, user_email=_name(n), ip_address=f"203.0.113.{n}") for n in range(5)]
    return Case(
        match=[Example("five users are refused from one address", refused(5, 4))],
        silent=[
            Example("four users are refused from one address", refused(4, 4)),
            Example("five users in five hours", refused(5, 60)),
            Example("five users from five addresses", elsewhere),
            Example("one user, twenty times", _each(range(20), log.refused)),
        ],
    )


def _first_country(log: _Log) -> Case:
    usual = _each((-10 * DAY, -5 * DAY), log.login)
    return Case(
        match=[
            Example("a known user comes from a new country", [*usual, log.login(5, country="DE")])
        ],
        silent=[
            Example("the country as always", [*usual, log.login(5)]),
            Example(
                "a country seen ten days ago",
                [*usual, log.login(-10 * DAY, country="DE"), log.login(5, country="DE")],
            ),
            Example("a new user", [log.login(5, country="DE", user_email=_name(1))]),
            Example("refused from a new country", [*usual, log.refused(5, country="DE")]),
        ],
    )


def _first_token(log: _Log) -> Case:
    other = "0123456789abcdef0123456789abcdef.access"
    usual = _each((-10 * DAY, -5 * DAY), log.token)
    return Case(
        match=[Example("a token never seen before", [*usual, log.token(5, user_email=other)])],
        silent=[
            Example("a token as always", [*usual, log.token(5)]),
            Example("a new person", [*usual, log.login(5)]),
            Example(
                "a new token is refused", [*usual, log.token(5, user_email=other, allowed=False)]
            ),
        ],
    )


def _refused_then_accepted(log: _Log) -> Case:
    fives = _each(range(0, 25, 5), log.refused)
    bob = {"user_email": "bob@example.com", "user_id": "u-7"}
    return Case(
        match=[
            Example("five page loads are refused, then one is not", [*fives, log.login(30)]),
            Example("the rows arrive in another order", [log.login(30), *fives]),
        ],
        silent=[
            Example(
                "let in first, refused later", [log.login(0), *_each(range(5, 30, 5), log.refused)]
            ),
            Example("four are refused", [*fives[:4], log.login(30)]),
            Example(
                "one page load of five rows is refused",
                [*_each(range(5), log.refused, ray_id="a1"), log.login(30)],
            ),
            Example("another user is let in", [*fives, log.login(30, **bob)]),
            Example("let in three hours later", [*fives, log.login(200)]),
        ],
    )


def _login_after_disable(log: _Log) -> Case:
    disabled = log.user(0, "PATCH", DISABLED)
    return Case(
        match=[
            Example("a disabled user logs in", [disabled, log.login(10)]),
            Example("a deleted user logs in", [log.user(0, "DELETE"), log.login(10)]),
            Example("the login's row arrives first", [log.login(10), disabled]),
        ],
        silent=[
            Example("the login was before", [log.login(-10), disabled]),
            Example("the login is refused", [disabled, log.refused(10)]),
            Example("two days later", [disabled, log.login(2 * DAY)]),
            Example("another user", [disabled, log.login(10, user_email="bob@example.com")]),
            Example(
                "the request failed",
                [log.user(0, "PATCH", DISABLED, status="FAILURE"), log.login(10)],
            ),
            Example(
                "a profile was sent whole",
                [log.user(0, "PUT", '{"active":true,"title":"Engineer"}'), log.login(10)],
            ),
        ],
    )


def _disable_failed(log: _Log) -> Case:
    failed = {"status": "FAILURE", "error_description": "user has no seat"}
    return Case(
        match=[
            Example("disabling fails", [log.user(0, "PATCH", DISABLED, **failed)]),
            Example("deleting fails", [log.user(0, "DELETE", **{**failed, "status": "ERROR"})]),
            Example("removing a member fails", [log.group(0, "PATCH", REMOVED, **failed)]),
        ],
        silent=[
            Example("disabling succeeds", [log.user(0, "PATCH", DISABLED)]),
            Example("an update fails", [log.user(0, "PUT", '{"title":"Engineer"}', **failed)]),
            Example("adding a member fails", [log.group(0, "PATCH", ADDED, **failed)]),
        ],
    )


def _bulk_deprovisioning(log: _Log) -> Case:
    def leavers(users: int, minutes: float = 5, **changes: Any) -> list[Row]:
        asked = [("PATCH", DISABLED), ("DELETE", ""), ("PUT", '{"active":false}')]
        return [
            log.user(
                number * minutes,
                *asked[number % 3],
                **{
                    "resource_user_email": _name(number),
                    "cf_resource_id": f"u-{number}",
                    **changes,
                },
            )
            for number in range(users)
        ]

    synced = [
        log.user(n, "PUT", '{"active":true}', cf_resource_id=f"u-{n}", resource_user_email=_name(n))
        for n in range(12)
    ]
    return Case(
        match=[Example("ten users lose access within the hour", leavers(10))],
        silent=[
            Example("nine users", leavers(9)),
            Example("ten users in ten hours", leavers(10, 60)),
            Example("the provider repeats one request", leavers(12, cf_resource_id="u-1")),
            Example("two providers, five each", [*leavers(5), *leavers(5, idp_id="idp-2")]),
            Example("ten requests fail", leavers(10, status="FAILURE")),
            Example("a synchronisation of twelve profiles", synced),
        ],
    )


def _group_admin_added(log: _Log) -> Case:
    members = '{"displayName":"Cloudflare Admins","members":[{"value":"u-7"}]}'
    return Case(
        match=[
            Example("a member is added", [log.group(0, "PATCH", ADDED)]),
            Example("one comes, one goes", [log.group(0, "PATCH", f"{ADDED},{REMOVED}")]),
            Example("all members are set", [log.group(0, "PUT", members)]),
        ],
        silent=[
            Example(
                "another group", [log.group(0, "PATCH", ADDED, resource_group_name="Engineering")]
            ),
            Example("a member is removed", [log.group(0, "PATCH", REMOVED)]),
            Example("adding fails", [log.group(0, "PATCH", ADDED, status="FAILURE")]),
            Example("an empty group", [log.group(0, "POST", '{"members":[]}')]),
        ],
    )


def _tor_login(log: _Log) -> Case:
    return Case(
        match=[
            Example("let in through Tor", [log.login(0, country="T1")]),
            Example("refused through Tor", [log.refused(0, country="T1")]),
        ],
        silent=[
            Example("from a country", [log.login(0)]),
            Example("from nobody knows where", [log.login(0, country="XX")]),
        ],
    )


def _two_places(log: _Log) -> Case:
    first = log.login(5)
    return Case(
        match=[Example("two countries within the hour", [first, log.login(25, country="DE")])],
        silent=[
            Example("one country", [first, log.login(25)]),
            Example("three hours later", [first, log.login(185, country="DE")]),
            Example("refused at the second place", [first, log.refused(25, country="DE")]),
            Example("Tor is no country", [first, log.login(25, country="T1")]),
            Example("a token", [log.token(5), log.token(25, country="DE")]),
            Example("another user", [first, log.login(25, country="DE", user_email=_name(1))]),
        ],
    )


def _idp_changed(log: _Log) -> Case:
    first = log.login(5)
    pin = {"connection": "onetimepin"}
    return Case(
        match=[Example("a one-time pin instead of the provider", [first, log.login(65, **pin)])],
        silent=[
            Example("the provider as always", [first, log.login(65)]),
            Example("the pin is refused", [first, log.refused(65, **pin)]),
            Example("another user", [first, log.login(65, user_email=_name(1), **pin)]),
            Example("three days later", [first, log.login(3 * DAY, **pin)]),
        ],
    )


def _gap(log: _Log) -> Case:
    span = {"from": "2026-07-01T00:00:00.000000Z", "to": "2026-07-01T06:00:00.000000Z"}
    about = {"sink": "siem", "account_id": None, "account": None, "stream": None}
    calm = ("start", "stop", "config_reloaded", "gap_closed", "late_rows", "coverage")
    return Case(
        match=[
            Example("rows are lost", [log.own(0, "gap_opened", reason="retention", **span)]),
            Example("a sink has lost events", [log.own(0, "gap_opened", reason="purged", **about)]),
        ],
        silent=[Example(f"no gap: {action}", [log.own(0, action, **span)]) for action in calm],
    )


def _unusual_country(log: _Log) -> Case:
    return Case(
        match=[Example("let in from elsewhere", [log.login(0, country="DE")])],
        silent=[
            Example("let in from a usual country", [log.login(0)]),
            Example("refused from elsewhere", [log.refused(0, country="DE")]),
            Example("a token from elsewhere", [log.token(0, country="DE")]),
            Example("from nobody knows where", [log.login(0, country="XX")]),
        ],
    )


def _token_at_two_addresses(log: _Log) -> Case:
    first, there = log.token(5), {"ip_address": "198.51.100.7"}
    return Case(
        match=[Example("a token at two addresses", [first, log.token(25, **there)])],
        silent=[
            Example("one address", [first, log.token(25)]),
            Example(
                "refused at the second address", [first, log.token(25, allowed=False, **there)]
            ),
            Example("a person at two addresses", [log.login(5), log.login(25, **there)]),
        ],
    )


def parsed(bodies: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return the objects of a format that writes JSON."""
    return [orjson.loads(body) for body in bodies]
