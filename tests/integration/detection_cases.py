"""Rows that each detection must find, and rows that it must not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from forwarder.core.contracts import BatchEvent
from forwarder.formats.ecs import EcsConfig, EcsFormat
from forwarder.formats.pipeline import Pipeline
from forwarder.testing.samples import (
    ACCOUNT,
    ACCOUNT_ID,
    ACCOUNTS,
    LOGINS,
    NORMALISERS,
    SCIM,
    id_of,
    page_of,
)

Row: TypeAlias = Mapping[str, Any]
LOGIN = LOGINS["login"]
_START = datetime.fromisoformat("2026-07-02T10:00:00+00:00")
_TOKEN: Row = {
    "user_email": LOGINS["login_service_token"]["user_email"],
    "user_id": None,
    "connection": "nonidentity",
}


@dataclass(frozen=True, slots=True)
class Case:
    """Rows of one detection by stream; those of ``before`` came in on an earlier day."""

    rows: tuple[Row, ...]
    before: tuple[Row, ...] = ()


def login(minute: float = 0, *, allowed: bool = True, **more: Any) -> Row:
    """Return a login so many minutes after the start, with a ray id of its own."""
    row = {**LOGIN, "created_at": _time(minute), "allowed": allowed, **more}
    return {**row, "ray_id": id_of(row)[:16]}


def refused(minutes: Iterable[float], **more: Any) -> tuple[Row, ...]:
    return tuple(login(minute, allowed=False, **more) for minute in minutes)


def user_change(minute: float = 0, who: str = "ann@example.com", **more: Any) -> Row:
    body = '{"Operations":[{"op":"replace","path":"active","value":false}]}'
    user = {"resource_type": "USER", "resource_user_email": who, "cf_resource_id": f"id-{who}"}
    change = {"http_method": "PATCH", "request_body": body, "logged_at": _time(minute)}
    return {**SCIM, **user, **change, **more}


def group_change(name: str, operation: str, **more: Any) -> Row:
    body = f'{{"Operations":[{{"op":"{operation}","path":"members","value":[{{"value":"u-1"}}]}}]}}'
    group = {"resource_type": "GROUP", "resource_group_name": name, "cf_resource_id": "g-1"}
    return {**SCIM, **group, "http_method": "PATCH", "request_body": body, **more}


def own(event: str, **more: Any) -> Row:
    about = {"account_id": ACCOUNT_ID, "account": ACCOUNT, "stream": "access_requests"}
    return {"time": _time(0), "event": event, **about, **more}


def _time(minute: float) -> str:
    return (_START + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ")


_PEOPLE = tuple(f"user{number}@example.com" for number in range(12))
_ABROAD: Row = {"country": "BR", "ip_address": "198.51.100.7"}
_ENABLE = '{"Operations":[{"op":"replace","path":"active","value":true}]}'

MATCHING: Mapping[str, Case] = {
    "brute_force_against_one_user": Case(refused(range(10))),
    "spray_from_one_address": Case(
        tuple(login(i, allowed=False, user_email=who) for i, who in enumerate(_PEOPLE[:5]))
    ),
    "first_login_from_country": Case((login(60, **_ABROAD),), before=(login(),)),
    "first_login_of_service_token": Case((login(60, **_TOKEN),), before=(login(),)),
    "refused_then_accepted": Case((*refused(range(5)), login(6))),
    "login_after_disable": Case((user_change(), login(30))),
    "disable_failed": Case((user_change(status="FAILURE", error_description="no such user"),)),
    "bulk_deprovisioning": Case(tuple(user_change(i, who) for i, who in enumerate(_PEOPLE[:10]))),
    "group_admin_added": Case((group_change("Domain Admins", "add"),)),
    "tor_login": Case((login(country="T1"),)),
    "login_at_two_places": Case((login(), login(20, **_ABROAD))),
    "idp_changed_for_user": Case((login(), login(120, connection="google"))),
    "forwarder_gap_or_silence": Case((own("coverage"), own("gap_opened", reason="retention"))),
}
SILENT: Mapping[str, Case] = {
    # Nine at once, and ten over a day; a token; people who are let in.
    "brute_force_against_one_user": Case(
        (
            *refused(range(9)),
            *refused(range(100, 700, 60), user_email="slow@example.com"),
            *refused(range(20), **_TOKEN),
            *map(login, range(20)),
        )
    ),
    # Four users; five users over a day; five users who are let in.
    "spray_from_one_address": Case(
        (
            *(login(i, allowed=False, user_email=who) for i, who in enumerate(_PEOPLE[:4])),
            *(
                login(i * 90, user_email=who, ip_address="192.0.2.9")
                for i, who in enumerate(_PEOPLE)
            ),
            *(
                login(i * 90, allowed=False, user_email=who, ip_address="192.0.2.8")
                for i, who in enumerate(_PEOPLE)
            ),
        )
    ),
    # The same country again; a new user; a refusal from elsewhere.
    "first_login_from_country": Case(
        (login(60), login(61, user_email="new@example.com"), *refused([62], **_ABROAD)),
        before=(login(),),
    ),
    "first_login_of_service_token": Case(
        (login(60, **_TOKEN), login(61, user_email="new@example.com")), before=(login(**_TOKEN),)
    ),
    # Four refusals; accepted first; accepted much later.
    "refused_then_accepted": Case(
        (
            *refused(range(4)),
            login(6),
            login(user_email="first@example.com"),
            *refused(range(1, 9), user_email="first@example.com"),
            *refused(range(6), user_email="later@example.com"),
            login(90, user_email="later@example.com"),
        )
    ),
    # A login before; another user; a user who was enabled again; a disable that failed; days later.
    "login_after_disable": Case(
        (
            login(),
            user_change(10),
            login(20, user_email="bob@example.com"),
            user_change(0, "back@example.com"),
            user_change(10, "back@example.com", request_body=_ENABLE),
            login(20, user_email="back@example.com"),
            user_change(0, "kept@example.com", status="FAILURE"),
            login(20, user_email="kept@example.com"),
            user_change(0, "late@example.com"),
            login(3000, user_email="late@example.com"),
        )
    ),
    "disable_failed": Case((user_change(), user_change(http_method="PUT", status="FAILURE"))),
    # Nine at once, and ten over a day; ten that failed.
    "bulk_deprovisioning": Case(
        (
            *(user_change(i, who) for i, who in enumerate(_PEOPLE[:9])),
            *(user_change(60 + i * 60, who, idp_id="slow") for i, who in enumerate(_PEOPLE)),
            *(user_change(i, who, status="FAILURE") for i, who in enumerate(_PEOPLE)),
        )
    ),
    "group_admin_added": Case(
        (
            group_change("Engineering", "add"),
            group_change("Domain Admins", "remove"),
            group_change("Domain Admins", "add", status="FAILURE"),
        )
    ),
    "tor_login": Case((login(), login(1, country="XX"))),
    # The same country twice; two countries two hours apart; two users; refused abroad; a token.
    "login_at_two_places": Case(
        (
            login(),
            login(10),
            login(130, **_ABROAD),
            login(12, user_email="bob@example.com", **_ABROAD),
            *refused([15], **_ABROAD),
            login(**_TOKEN),
            login(5, **{**_TOKEN, **_ABROAD}),
        )
    ),
    "idp_changed_for_user": Case(
        (login(), login(5), login(3000, connection="google"), *refused([9], connection="google"))
    ),
    "forwarder_gap_or_silence": Case((own("coverage"), own("late_rows", rows=3))),
}
SILENCE = Case((own("start"),))
"""No coverage, which is the other half of the last detection."""


def events_of(rows: Iterable[Row], namespace: str) -> list[BatchEvent]:
    """Return the events that the format ``ecs`` makes of rows of any stream."""
    found: list[BatchEvent] = []
    render = Pipeline(EcsFormat(EcsConfig(data_stream_namespace=namespace)), NORMALISERS, ACCOUNTS)
    for row in rows:
        page = page_of(_stream(row), [row], first_offset=len(found))
        found += render(page).events
    return found


def _stream(row: Row) -> str:
    known: Mapping[str, Callable[[Row], bool]] = {
        "forwarder": lambda row: "event" in row,
        "scim_updates": lambda row: "idp_id" in row,
    }
    return next((name for name, fits in known.items() if fits(row)), "access_requests")
