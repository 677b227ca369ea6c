"""Requests for temporary access: a list, and for each the events of its life.

As documented: `since` and `until` are compared with the time of the request, the list says what the
request is now, and only the request itself has its events. The order of the list is not documented;
here the newest comes first.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import orjson

from forwarder.simulator.company import Company, Person, seeded, stable_id, whole_number
from forwarder.simulator.query import Params, moment, positive
from forwarder.simulator.rows import format_moment, microseconds

LARGEST, DEFAULT = 1000, 25
_HOUR_US = 3_600_000_000
_SECOND_US = 1_000_000

STEP_KEYS = ("knock_request_id", "timestamp", "type", "actor_uuid")
"""What tells one step of a request from all others."""

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """A request, and all that will ever happen to it: (microseconds, event) in order of time."""

    made_us: int
    fields: dict[str, Any]
    life: tuple[tuple[int, Event], ...] = ()
    raw: bytes = b""
    """In place of all that, as the list sends it."""

    @property
    def id(self) -> str:
        """Its id, or nothing."""
        return str(self.fields.get("knock_request_id", ""))

    def events(self, now_us: int) -> list[Event]:
        """Return what has happened until now."""
        return [event for at_us, event in self.life if at_us <= now_us]

    def listed(self, now_us: int) -> dict[str, Any]:
        """Return the request as the list shows it now."""
        events = self.events(now_us)
        approvers = [
            event["actor_email"] for event in events if event.get("decision_outcome") == "APPROVED"
        ]
        kinds = {event["type"] for event in events}
        denied = any(event.get("decision_outcome") == "DENIED" for event in events)
        approved = "APPROVED" if "COMMITTED" in kinds else "PENDING"
        status = "CANCELED" if "CANCELED" in kinds else "DENIED" if denied else approved
        return {
            **self.fields,
            "status": status,
            "approvals_received": len(set(approvers)),
            "approver_emails": approvers,
        }


class Board:
    """The requests of one account, and which of their events were shown."""

    def __init__(
        self, company: Company, seed: int, account: str, rate: float, since: float
    ) -> None:
        self._company, self._seed, self._account, self._rate = company, seed, account, rate
        self._next_second = int(since)
        self._requests: list[Request] = []
        self.shown: set[tuple[str, str, str, str]] = set()
        """Request, time, type and actor of each event that was sent."""

    def advance(self, now: float) -> None:
        """Make the requests up to `now` (epoch seconds)."""
        while self._next_second <= now:
            draw = seeded(self._seed, self._account, "jit", self._next_second)
            for _ in range(whole_number(draw, self._rate)):
                self.add(_request(self._company, draw, self._next_second))
            self._next_second += 1

    def add(self, request: Request) -> None:
        """Add a request; its events happen when their time has come."""
        insort(self._requests, request, key=lambda one: one.made_us)

    def listed(self, params: Params, now: float) -> bytes:
        """Return one page of the list as JSON.

        Raises:
            BadParameterError: a value has not the documented form.

        """
        now_us = microseconds(now)
        since_us, until_us = moment(params, "since"), moment(params, "until")
        page, size = positive(params, "page") or 1, positive(params, "per_page") or DEFAULT
        size = min(size, LARGEST)
        fitting = [
            one
            for one in reversed(self._requests)
            if (since_us or 0) <= one.made_us <= min(until_us or now_us, now_us)
        ]
        chosen = fitting[(page - 1) * size : page * size]
        return (
            b"[" + b",".join(one.raw or orjson.dumps(one.listed(now_us)) for one in chosen) + b"]"
        )

    def detail(self, name: str, now: float) -> dict[str, Any] | None:
        """Return a request with its events, None if there is none of this id."""
        now_us = microseconds(now)
        found = (one for one in self._requests if one.id == name and one.made_us <= now_us)
        request = next(found, None)
        if request is None:
            return None
        return {**request.listed(now_us), "events": request.events(now_us)}

    def note(self, detail: dict[str, Any]) -> None:
        """Note that a request with its events was sent in full."""
        name = detail["knock_request_id"]
        self.shown |= {
            (name, one["timestamp"], one["type"], one["actor_uuid"]) for one in detail["events"]
        }


def made(
    number: int,
    made_us: int,
    who: Person,
    steps: Sequence[tuple[float, str, dict[str, Any]]],
    hostname: str = "wiki.example.com",
) -> Request:
    """Return a request whose `steps` happen so many seconds after it was made."""
    name = stable_id("jit", str(number), who.id)
    life = []
    for after, kind, more in ((0.0, "CREATED", {}), *steps):
        at_us = made_us + microseconds(after)
        event = {
            "type": kind,
            "timestamp": format_moment(at_us),
            "actor_email": who.email,
            "actor_uuid": who.id,
            "actor_idp": who.connection,
            "success": True,
            **more,
        }
        life.append((at_us, event))
    fields = {
        "knock_request_id": name,
        "requester_email": who.email,
        "app_aud": stable_id("aud", hostname),
        "app_hostname": hostname,
        "purpose_justification": "incident 4711",
        "created_at": format_moment(made_us),
        "expires_at": format_moment(made_us + _HOUR_US),
    }
    return Request(made_us, fields, tuple(life))


def _request(company: Company, draw: Random, second: int) -> Request:
    who, approver = draw.sample(company.people, 2)
    by = {"actor_email": approver.email, "actor_uuid": approver.id}
    wait = draw.uniform(1, 60)
    decided = draw.choice(("APPROVED", "APPROVED", "DENIED", "CANCELED"))
    steps: list[tuple[float, str, dict[str, Any]]] = [(wait, "CANCELED", {})]
    if decided != "CANCELED":
        steps = [(wait, "APPROVER_DECISION", {**by, "decision_outcome": decided})]
    if decided == "APPROVED":
        ray = {"ray_id": f"{draw.getrandbits(64):016x}", "session_duration_seconds": 3600}
        steps += [(wait + 1, "COMMITTED", by), (wait + 5, "LOGIN_SUCCESS", ray)]
    host = draw.choice(company.applications).domain.partition("/")[0]
    return made(draw.getrandbits(64), second * _SECOND_US, who, steps, host)
