"""What a request asks for, as Cloudflare reads it, and the page that answers it; pure.

Both log endpoints share window, paging and direction. An invalid parameter is refused with code
12130, as Cloudflare Access does. Unknown parameters are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from typing import Any, Protocol

import orjson

from forwarder.simulator.faults import SCIM_UPDATES, Fault
from forwarder.simulator.feed import Feed, Page, read_row
from forwarder.simulator.rows import microseconds, parse_moment
from forwarder.simulator.settings import SimulatorSettings

RowTest = Callable[[dict[str, Any]], bool]


class Params(Protocol):
    """Query parameters; each may be sent several times."""

    def get(self, name: str, /) -> str | None:
        """Return the first value, or None."""

    def getall(self, name: str, default: tuple[()], /) -> Sequence[str]:
        """Return all values."""


class BadParameterError(Exception):
    """A parameter that the API refuses; the message names it."""


@dataclass(frozen=True, slots=True)
class Query:
    """One page of one window; `idps` None means rows of all providers."""

    since_us: int | None = None
    until_us: int | None = None
    direction: str = "desc"
    page: int = 1
    size: int = 25
    inclusive_since: bool = True
    tests: tuple[RowTest, ...] = ()
    idps: frozenset[str] | None = None
    fields: tuple[str, ...] | None = None


def parse_window(params: Params, settings: SimulatorSettings, default_size: int) -> Query:
    """Return the query that both streams' parameters describe.

    Raises:
        BadParameterError: a value has not the documented form.

    """
    query = Query(
        since_us=moment(params, "since"),
        until_us=moment(params, "until"),
        direction=choice(params, "direction", ("desc", "asc")) or "desc",
        page=positive(params, "page") or 1,
        size=page_size(params, settings, default_size),
        inclusive_since=settings.inclusive_since,
    )
    return _whole_second(query) if settings.whole_second_since else query


def page_size(params: Params, settings: SimulatorSettings, default: int) -> int:
    """Return the page size: the smallest of what is requested and what is allowed."""
    asked = [positive(params, "limit"), positive(params, "per_page")]
    if settings.unsent_size_counts:
        asked = [size or default for size in asked]
    size = min((size for size in asked if size is not None), default=default)
    if size > settings.page_cap and settings.refuse_over_cap:
        raise BadParameterError(f"per_page must not exceed {settings.page_cap}")
    return min(size, settings.page_cap)


def bend(query: Query, fault: Fault) -> Query:
    """Return the query as a bending fault misreads it."""
    return _BENT[fault.kind](query, fault)


def positive(params: Params, name: str) -> int | None:
    """Return a whole number >= 1, or None if the parameter was not sent."""
    text = params.get(name)
    if text is None:
        return None
    # isdigit() alone takes other scripts; int() of a very long text is slow.
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:  # noqa: PLR2004
        raise BadParameterError(f"{name} must be a positive integer")
    return int(text)


def choice(params: Params, name: str, allowed: tuple[str, ...]) -> str | None:
    """Return one of the allowed words, or None if the parameter was not sent."""
    text = params.get(name)
    if text is not None and text not in allowed:
        raise BadParameterError(f"{name} must be one of {', '.join(allowed)}")
    return text


def moment(params: Params, name: str) -> int | None:
    """Return the microseconds of a date-time, or None if the parameter was not sent."""
    text = params.get(name)
    if text is None:
        return None
    try:
        return parse_moment(text)
    except ValueError:
        raise BadParameterError(f"{name} must be an RFC 3339 date-time") from None


def _whole_second(query: Query) -> Query:
    if query.since_us is None:
        return query
    # Cut, so that the window begins earlier: rows come twice, none is hidden.
    return replace(query, since_us=query.since_us // 1_000_000 * 1_000_000)


def _widened(query: Query, by_us: int) -> Query:
    return replace(
        query,
        since_us=None if query.since_us is None else query.since_us - by_us,
        until_us=None if query.until_us is None else query.until_us + by_us,
    )


_BENT: dict[str, Callable[[Query, Fault], Query]] = {
    "ignore_page": lambda query, _: replace(query, page=1),
    "ignore_direction": lambda query, _: replace(query, direction="desc"),
    "ignore_idp_id": lambda query, _: replace(query, idps=None),
    "inclusive_since": lambda query, _: replace(query, inclusive_since=True),
    "exclusive_since": lambda query, _: replace(query, inclusive_since=False),
    "whole_second_since": lambda query, _: _whole_second(query),
    "small_page": lambda query, fault: replace(query, size=min(query.size, fault.count)),
    "outside_window": lambda query, fault: _widened(query, microseconds(fault.seconds)),
}


EQUALITY = ("eq", "neq")
VALUE_FILTERS = {
    "app_type": "app_type",
    "app_uid": "app_uid",
    "ray_id": "ray_id",
    "idp": "connection",
}
"""Parameter, and the key of the row that it is compared with."""

ENUMERATED = {
    "status": ("FAILURE", "SUCCESS"),
    "resource_type": ("USER", "GROUP"),
    "request_method": ("DELETE", "PATCH", "POST", "PUT"),
}
FREE = ("resource_user_email", "resource_group_name", "cf_resource_id", "idp_resource_id")


def access_filters(params: Params, idp_types: Mapping[str, str]) -> tuple[RowTest, ...]:
    """Return the tests that a row of `access_requests` must pass.

    Each parameter has one value and an operator (`app_uid=...&app_uidOp=neq`). `idp_types` maps the
    ids of the account's providers to their types.

    Raises:
        BadParameterError: a value or an operator is not a documented one.

    """
    # `user_id` itself is accepted and no longer applied, as documented; its operator is checked.
    choice(params, "user_idOp", EQUALITY)
    return tuple(
        test
        for group in (
            _email(params),
            _values(params, idp_types),
            _country(params),
            _flags(params),
        )
        for test in group
    )


def scim_filters(params: Params) -> tuple[RowTest, ...]:
    """Return the tests that a row of `scim/updates` must pass, apart from `idp_id`.

    Each parameter may be repeated; any of its values may match.

    Raises:
        BadParameterError: a value is not one of those documented.

    """
    tests: list[RowTest] = []
    for name, allowed in (*ENUMERATED.items(), *((name, None) for name in FREE)):
        wanted = frozenset(params.getall(name, ()))
        if allowed is not None and not wanted.issubset(allowed):
            raise BadParameterError(f"{name} must be one of {', '.join(allowed)}")
        if wanted:
            tests.append(_any_of(name, wanted))
    return tuple(tests)


def _email(params: Params) -> Iterator[RowTest]:
    # The documented default compares by substring; `email_exact` is the older spelling of `eq`.
    email = params.get("email")
    operator = choice(params, "emailOp", (*EQUALITY, "contains")) or "contains"
    if _flag(params, "email_exact") and operator == "contains":
        operator = "eq"
    if email is None:
        return
    if operator == "contains":
        yield lambda row: email in str(row.get("user_email", ""))
    else:
        yield _compared("user_email", email, operator)


def _values(params: Params, idp_types: Mapping[str, str]) -> Iterator[RowTest]:
    for name, key in VALUE_FILTERS.items():
        operator = choice(params, f"{name}Op", EQUALITY) or "eq"
        wanted = params.get(name)
        if wanted is not None:
            # Rows hold no provider id: an id is compared through its provider's type.
            wanted = idp_types.get(wanted, wanted) if name == "idp" else wanted
            yield _compared(key, wanted, operator)


def _country(params: Params) -> Iterator[RowTest]:
    wanted = params.get("country_code")
    same = (choice(params, "country_codeOp", EQUALITY) or "eq") == "eq"
    if wanted is not None:
        # Rows have codes in either case, and so may the request.
        code = wanted.upper()
        yield lambda row: (str(row.get("country", "")).upper() == code) is same


def _flags(params: Params) -> Iterator[RowTest]:
    allowed, same_allowed = _flag(params, "allowed"), _is_eq(params, "allowedOp")
    if allowed is not None:
        yield lambda row: (row.get("allowed") is allowed) is same_allowed
    machine, same_machine = _flag(params, "non_identity"), _is_eq(params, "non_identityOp")
    if machine is not None:
        yield lambda row: ((row.get("connection") == "nonidentity") is machine) is same_machine


def _is_eq(params: Params, name: str) -> bool:
    return (choice(params, name, EQUALITY) or "eq") == "eq"


def _flag(params: Params, name: str) -> bool | None:
    text = choice(params, name, ("true", "false"))
    return None if text is None else text == "true"


def _compared(key: str, wanted: str, operator: str) -> RowTest:
    same = operator == "eq"
    return lambda row: (row.get(key) == wanted) is same


def _any_of(name: str, wanted: frozenset[str]) -> RowTest:
    def test(row: dict[str, Any]) -> bool:
        found = row.get(name)
        # The parameter has the documented name, the row the one that is seen.
        if found is None and name == "request_method":
            found = row.get("http_method")
        return isinstance(found, str) and found in wanted

    return test


def read_page(feed: Feed, query: Query) -> Page:
    """Return the instances that answer a query, in the order of the answer."""
    window = feed.window(query.since_us, query.until_us, inclusive_since=query.inclusive_since)
    places = window if query.direction == "asc" else window[::-1]
    start, stop = (query.page - 1) * query.size, query.page * query.size
    # Without a filter the page is a slice: no row is parsed.
    if not query.tests and (query.idps is None or feed.store.known_tags <= query.idps):
        numbers = tuple(map(feed.store.at, places[start:stop]))
        return Page(numbers, query.page, query.size, len(places))
    fitting = _fitting(feed, query, places)
    if feed.stream == SCIM_UPDATES:
        # It counts all that fit, so all must be tested.
        found = tuple(fitting)
        return Page(found[start:stop], query.page, query.size, len(found))
    return Page(tuple(islice(fitting, start, stop)), query.page, query.size)


def page_body(feed: Feed, page: Page, query: Query, *, reversed_keys: bool = False) -> bytes:
    """Return the answer's body."""
    bodies = feed.store.served(page.numbers)
    if query.fields is not None:
        bodies = [_projected(body, query.fields) for body in bodies]
    if reversed_keys:
        bodies = [_turned_round(body) for body in bodies]
    # As seen on the real API: `access_requests` says `total_count: 0` beside a full page, and
    # `scim/updates` counts.
    info = {"count": len(bodies), "page": page.page, "per_page": page.size, "total_count": 0}
    if feed.stream == SCIM_UPDATES:
        info |= {"total_count": page.total, "total_pages": ceil(page.total / page.size)}
    return envelope(b"[" + b",".join(bodies) + b"]", info)


def envelope(result: bytes, info: Mapping[str, Any] | None = None) -> bytes:
    """Return the success envelope around a result in JSON."""
    head = b'{"result":' + result + b',"success":true,"errors":[],"messages":[]'
    return head + (b"}" if info is None else b',"result_info":' + orjson.dumps(info) + b"}")


def _fitting(feed: Feed, query: Query, places: Sequence[int]) -> Iterator[int]:
    store, idps = feed.store, query.idps
    for number in map(store.at, places):
        if idps is not None and store.tags[number] not in idps:
            continue
        if not query.tests or _passes(store.body(number), query):
            yield number


def _passes(body: bytes, query: Query) -> bool:
    row = read_row(body)
    return all(test(row) for test in query.tests)


def _projected(body: bytes, fields: tuple[str, ...]) -> bytes:
    row = read_row(body)
    return orjson.dumps({key: row[key] for key in fields if key in row})


def _turned_round(body: bytes) -> bytes:
    try:
        row = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    return orjson.dumps(dict(reversed(row.items())))
