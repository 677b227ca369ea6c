"""The account's audit log, version 2: its rows, and pages that a cursor leads through.

As documented: `since` and `before` are required and compared with the time of the action, `limit`
is at most 1,000, page numbers are ignored, and the next cursor stands in `result_info`. Cursors are
remembered here, so another process refuses them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Any
from uuid import UUID

import orjson

from forwarder.simulator.company import Company, seeded, stable_id, whole_number
from forwarder.simulator.faults import Fault
from forwarder.simulator.feed import Feed, Page, read_row
from forwarder.simulator.query import BadParameterError, Params, Query, choice, moment, positive
from forwarder.simulator.rows import TimedRow
from forwarder.simulator.traffic import moment_in

CATEGORIES = {
    "zero_trust": ("access", "gateway", "tunnel"),
    "account": ("members", "api_tokens", "sso"),
    "dns": ("dns_records",),
    "logs": ("logpush",),
    "workers": ("workers",),
}
"""Values of `product_category`, and the products of each; the real ones are not documented."""
LARGEST, DEFAULT = 1000, 100
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a page begins: behind the instances `shown` of time `time_us`.

    A cursor keeps the direction of the request that it was given for.
    """

    time_us: int
    shown: frozenset[int]
    forwards: bool


class Cursors:
    """The cursors that were given out, each with the place that it leads to."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Cut] = OrderedDict()
        self._numbers = count(1)

    def give(self, cut: Cut) -> str:
        """Return a new cursor that leads behind `cut`."""
        cursor = f"c{next(self._numbers):x}.{cut.time_us:x}"
        self._known[cursor] = cut
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return cursor

    def find(self, cursor: str | None) -> Cut | None:
        """Return where a cursor leads, None for no cursor.

        Raises:
            BadParameterError: nobody knows the cursor, or nobody does any more.

        """
        if cursor is None:
            return None
        if cursor not in self._known:
            raise BadParameterError("cursor is invalid or has expired")
        return self._known[cursor]

    def forget(self) -> None:
        """Refuse every cursor from now on."""
        self._known.clear()


def audit_query(params: Params) -> Query:
    """Return what a request asks for; page numbers are ignored.

    Raises:
        BadParameterError: a value has not the documented form, or a bound is missing.

    """
    since_us, before_us = moment(params, "since"), moment(params, "before")
    if since_us is None or before_us is None:
        raise BadParameterError("since and before are required")
    size = positive(params, "limit") or DEFAULT
    if size > LARGEST:
        raise BadParameterError(f"limit must not exceed {LARGEST}")
    wanted = {name.lower() for name in params.getall("product_category", ())}
    if unknown := wanted - CATEGORIES.keys():
        raise BadParameterError(f"product_category {', '.join(sorted(unknown))} is unknown")
    products = {product for name in wanted for product in CATEGORIES[name]}
    return Query(
        since_us=since_us,
        # `before` is "older than": its own instant does not belong to the window.
        until_us=before_us - 1,
        direction=choice(params, "direction", ("desc", "asc")) or "desc",
        size=size,
        tests=(lambda row: _product_of(row) in products,) if wanted else (),
    )


def read_audit_page(feed: Feed, query: Query, cut: Cut | None) -> tuple[Page, Cut | None]:
    """Return the instances of one page, and where the next begins; None at the end."""
    window = feed.window(query.since_us, query.until_us, inclusive_since=query.inclusive_since)
    store, forwards = feed.store, query.direction == "asc" if cut is None else cut.forwards
    behind = (lambda _: True) if cut is None else _behind(feed, cut)
    numbers = filter(behind, map(store.at, window if forwards else window[::-1]))
    fitting = [n for n in numbers if all(test(read_row(store.body(n))) for test in query.tests)]
    chosen = tuple(fitting[: query.size])
    page = Page(chosen, 1, query.size)
    if len(fitting) <= query.size:
        return page, None
    last_us = store.time_of(chosen[-1])
    shown = {number for number in chosen if store.time_of(number) == last_us}
    if cut is not None and cut.time_us == last_us:
        shown |= cut.shown
    return page, Cut(last_us, frozenset(shown), forwards)


def _behind(feed: Feed, cut: Cut) -> Callable[[int], bool]:
    def test(number: int) -> bool:
        time_us = feed.store.time_of(number)
        later = time_us > cut.time_us if cut.forwards else time_us < cut.time_us
        return later or (time_us == cut.time_us and number not in cut.shown)

    return test


def cursored(
    cursors: Cursors, asked: str | None, page: Page, following: Cut | None, faults: set[str]
) -> tuple[Page, str]:
    """Return the page and the next cursor as they are sent; `faults` are kinds that strike."""
    cursor = "" if following is None else cursors.give(following)
    if "empty_page" in faults and page.numbers:
        # The rows are behind the cursor of this page: nothing of them is hidden.
        again = cursors.find(asked) or Cut(-(2**62), frozenset(), forwards=True)
        return replace(page, numbers=()), cursors.give(again)
    if "repeat_cursor" in faults and asked:
        return page, asked
    return page, cursor


def result_info(page: Page, cursor: str, faults: set[str]) -> dict[str, Any]:
    """Return what stands beside the rows; the number of rows is a text, as documented."""
    info: dict[str, Any] = {"count": str(len(page.numbers))}
    if "cursor_elsewhere" in faults:
        return {**info, "cursors": {"after": cursor}}
    return {**info, "cursor": cursor}


def categories_body() -> bytes:
    """Return the list of product categories."""
    listed = [
        {
            "value": value,
            "label": value.replace("_", " ").title(),
            "products": [{"value": one, "label": one.title()} for one in products],
        }
        for value, products in CATEGORIES.items()
    ]
    return orjson.dumps(listed)


def _product_of(row: Mapping[str, Any]) -> str:
    resource = row.get("resource")
    return str(resource.get("product", "")) if isinstance(resource, dict) else ""


def dated(template: Mapping[str, Any], time: str, number: int) -> dict[str, Any]:
    """Return a row like `template` with a time and an id of its own."""
    action = {**template.get("action", {}), "time": time}
    return {**template, "id": str(UUID(int=number)), "action": action}


SECRET = "sim-secret-"  # noqa: S105 - never to be passed on  # nosec B105
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"

Change = tuple[str, str, str, str, str, dict[str, Any], dict[str, Any]]
"""Description, type, method, path below the account, product, request and response."""


def _changes(draw: Random, thing: str) -> list[Change]:
    secret = f"{SECRET}{draw.getrandbits(64):016x}"
    target = f"https://logs.example.com/x?header_Authorization={secret}"
    return [
        ("Update Access policy", "update", "PUT", f"access/policies/{thing}", "access",
         {"decision": "allow", "include": [{"group": {"id": thing}}]}, {"id": thing}),
        ("Create Access application", "create", "POST", "access/apps", "access",
         {"name": "Wiki", "domain": "wiki.example.com"}, {"id": thing}),
        ("Revoke application tokens", "create", "POST", f"access/apps/{thing}/revoke_tokens",
         "access", {}, {}),
        ("Create service token", "create", "POST", "access/service_tokens", "access",
         {"name": "deploy-bot"}, {"client_id": f"{thing}.access", "client_secret": secret}),
        ("Update identity provider", "update", "PUT", f"access/identity_providers/{thing}",
         "access", {"config": {"client_id": "x", "client_secret": secret}}, {"id": thing}),
        ("Delete rule group", "delete", "DELETE", f"access/groups/{thing}", "access", {}, {}),
        ("Update Gateway rule", "update", "PUT", f"gateway/rules/{thing}", "gateway",
         {"action": "block"}, {"id": thing}),
        ("Add Member", "create", "POST", "members", "members",
         {"email": "new@example.com", "roles": ["admin"]}, {"id": thing}),
        ("Create API token", "create", "POST", "tokens", "api_tokens",
         {"name": "ci"}, {"id": thing, "value": secret}),
        ("Update Logpush job", "update", "PUT", "logpush/jobs/17", "logpush",
         {"destination_conf": target, "enabled": False}, {}),
        ("SSO_LOGIN", "create", "", "", "sso", {}, {}),
        ("Create DNS record", "create", "POST", f"dns_records/{thing}", "dns_records",
         {"name": "a.example.com"}, {"id": thing}),
        ("Deploy Worker", "update", "PUT", f"workers/scripts/{thing}", "workers", {}, {}),
    ]  # fmt: skip


def audit_rows(
    company: Company, seed: int, account: str, second: int, rate: float
) -> list[TimedRow]:
    """Return the rows of one epoch second, in order of time.

    The same arguments return the same rows. `rate` is the average number of rows a second.
    """
    draw = seeded(seed, account, "audit", second)
    rows = [_activity(company, account, draw, second) for _ in range(whole_number(draw, rate))]
    return sorted(rows, key=lambda row: row[0])


def _activity(company: Company, account: str, draw: Random, second: int) -> TimedRow:
    time_us, time = moment_in(draw, second)
    thing = stable_id(account, str(draw.randrange(50)))
    description, kind, method, path, product, request, response = draw.choice(_changes(draw, thing))
    person = draw.choice(company.people)
    failed = draw.random() < 0.05  # noqa: PLR2004 - mostly errors of the server, as 4xx is not logged
    row: dict[str, Any] = {
        "id": str(UUID(int=draw.getrandbits(128))),
        "account": {"id": account, "name": company.name},
        "action": {
            "description": description,
            "result": "failure" if failed else "success",
            "time": time,
            "type": kind,
        },
        "actor": {
            "id": person.id,
            "context": "dash",
            "email": person.email,
            "ip_address": person.addresses[0],
            "type": "user",
        },
        "raw": {
            "cf_ray_id": f"{draw.getrandbits(64):016x}",
            "method": method,
            "status_code": 500 if failed else 200,
            "uri": f"/accounts/{account}/{path}" if path else "",
            "user_agent": _BROWSER,
        },
        "resource": {
            "id": thing,
            "product": product,
            "type": product,
            # Filters take a text; the documentation's example has an object.
            "scope": draw.choice(("accounts", {})),
            "request": request,
            "response": response,
        },
    }
    return time_us, _by_nobody(row) if draw.random() < 0.1 else row  # noqa: PLR2004 - some are


def _by_nobody(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row as Cloudflare's own machinery causes it: without an actor's address."""
    return {**row, "actor": {"type": "system"}, "raw": None, "zone": None}


def strikes(faults: tuple[Fault, ...]) -> set[str]:
    """Return the kinds of some faults."""
    return {fault.kind for fault in faults}
