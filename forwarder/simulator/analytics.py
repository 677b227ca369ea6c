"""Logins without identity, as Cloudflare's analytics give them: by GraphQL, grouped and sampled.

As documented or seen: a query is about one account, asks for at most 30 fields, a week and
`maxPageSize` groups, and fails as a whole for one field that the plan lacks. Logins with the same
values in all selected dimensions are one group; `count` is corrected for sampling. Absent values
are empty texts, times whole seconds. Errors come in an answer with status 200.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any
from zlib import crc32

import orjson

from forwarder.simulator.company import Company, seeded, stable_id, whole_number
from forwarder.simulator.faults import Fault
from forwarder.simulator.feed import Feed, read_row
from forwarder.simulator.query import BadParameterError
from forwarder.simulator.rows import TimedRow, format_moment, parse_moment

NODE = "accessLoginRequestsAdaptiveGroups"
_TEXTS = (
    *("datetime", "approvingPolicyId", "cfRayId", "ipAddress", "userUuid", "identityProvider"),
    *("country", "deviceId", "mtlsStatus", "mtlsCertSerialId", "mtlsCommonName", "serviceTokenId"),
    "appId",
)
_FLAGS = ("isSuccessfulLogin", "hasWarpEnabled", "hasGatewayEnabled", "hasExistingJWT")
DIMENSIONS = (*_TEXTS, *_FLAGS)
_MOST_FIELDS = 30
_WEEK = 604_800
_REACH = 90 * 86_400
LARGEST = 10_000


class QueryError(Exception):
    """A query that is refused; the text is the message."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a selection, with its arguments and what is selected of it."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    selected: tuple[Field, ...] = ()

    def one(self, name: str) -> Field:
        """Return the selected field of this name.

        Raises:
            QueryError: it is not selected.

        """
        found = next((one for one in self.selected if one.name == name), None)
        if found is None:
            raise QueryError(f'unknown field "{name}"')
        return found

    def leaves(self) -> int:
        """Return how many fields without fields are selected."""
        return sum(one.leaves() for one in self.selected) if self.selected else 1


_WORD = re.compile(r'[{}()\[\]:]|"(?:[^"\\]|\\.)*"|\$?[A-Za-z0-9_.+-]+!?')


def parse(text: str, variables: Mapping[str, Any]) -> Field:
    """Return a query as a field without a name.

    Raises:
        QueryError: it cannot be read.

    """
    # What stands before the first brace names the query and its variables.
    words = iter(_WORD.findall(text[text.find("{") :]))
    try:
        if next(words) != "{":
            raise QueryError("error parsing args: no query")
        return Field("", {}, tuple(_selection(words, variables)))
    except (StopIteration, RuntimeError, ValueError):
        raise QueryError("error parsing args: the query breaks off") from None


def _selection(words: Iterator[str], variables: Mapping[str, Any]) -> Iterator[Field]:
    made: Field | None = None
    for word in words:
        if word == "(" and made:
            made = Field(made.name, _object(words, variables, ")"))
        elif word == "{" and made:
            made = Field(made.name, made.args, tuple(_selection(words, variables)))
        else:
            if made:
                yield made
            if word == "}":
                return
            made = Field(word)


def _object(words: Iterator[str], variables: Mapping[str, Any], end: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while (name := next(words)) != end:
        if next(words) != ":":
            raise ValueError(name)
        found[name] = _value(words, next(words), variables)
    return found


def _value(words: Iterator[str], word: str, variables: Mapping[str, Any]) -> Any:
    if word == "{":
        return _object(words, variables, "}")
    if word == "[":
        items = []
        while (item := next(words)) != "]":
            items.append(_value(words, item, variables))
        return items
    if word.startswith("$"):
        return variables[word[1:]]
    return orjson.loads(word) if word[0] == '"' or word.isdigit() else word


@dataclass(slots=True)
class Analytics:
    """What one account's analytics have shown: each group, by all of its dimensions."""

    feed: Feed
    shown: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    """Every group of every answer that was sent, as it was first."""

    def settings(self, lacking: frozenset[str]) -> dict[str, Any]:
        """Return what the settings node says; `lacking` are dimensions that the plan has not."""
        fields = [f"dimensions_{name}" for name in DIMENSIONS if name not in lacking]
        return {
            "enabled": True,
            "maxDuration": _WEEK,
            "maxPageSize": LARGEST,
            "maxNumberOfFields": _MOST_FIELDS,
            "notOlderThan": _REACH,
            "availableFields": ["count", "avg_sampleInterval", *fields],
        }

    def groups(
        self, query: Field, now: float, lacking: frozenset[str], every: int
    ) -> list[dict[str, Any]]:
        """Return the groups that a query asks for; one of `every` logins is kept.

        Raises:
            QueryError: the query asks for more than is allowed.

        """
        # First of all: one field that the plan lacks fails the query, whatever else it asks for.
        names, asked = _selected(query, lacking), query.args.get("filter", {})
        since, until = (_bound(asked, name) for name in ("datetime_geq", "datetime_lt"))
        limit = query.args.get("limit")
        if not isinstance(limit, int) or not 0 < limit <= LARGEST:
            raise QueryError(f"limit must be positive number and not greater than {LARGEST}")
        if until - since > _WEEK:
            raise QueryError(f"query time range is too large: not more than {_WEEK}s")
        if since < now - _REACH:
            raise QueryError(f"cannot request data older than {_REACH}s")
        window = self.feed.window(since * 1_000_000, until * 1_000_000 - 1)
        rows = [self._read(self.feed.store.body(n)) for n in map(self.feed.store.at, window)]
        raw = [row for row in rows if "raw" in row]
        wanted = asked.get("identityProvider")
        kept = [
            tuple((name, row.get(name, "")) for name in names)
            for row in rows
            if "raw" not in row
            and wanted in (None, row.get("identityProvider"))
            # By its ray, so that a login is in the sample of every query or of none.
            and crc32(str(row.get("cfRayId")).encode()) % every == 0
        ]
        counted = Counter(kept)
        found = [
            {"count": count * every, "avg": {"sampleInterval": every}, "dimensions": dict(group)}
            for group, count in sorted(counted.items(), key=lambda one: dict(one[0])["datetime"])
        ]
        return [*found, *raw][:limit]

    def note(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Note groups of an answer that was sent in full."""
        for group in groups:
            if "raw" not in group:
                name = orjson.dumps(group["dimensions"], option=orjson.OPT_SORT_KEYS)
                measures = {"count": group["count"], **group["avg"]}
                self.shown.setdefault(name, {**group["dimensions"], **measures})

    def recount(self, fault: Fault) -> None:
        """Let the newest `count` groups that were shown stand for one login more each."""
        for row in list(self.shown.values())[-fault.count :]:
            self.feed.add({key: row[key] for key in DIMENSIONS if key in row})

    @staticmethod
    def _read(body: bytes) -> dict[str, Any]:
        """Return a login; for what is none, the bytes of a group."""
        row = read_row(body)
        return {"raw": body} if "unreadable" in row or "datetime" not in row else row


def _selected(query: Field, lacking: frozenset[str]) -> list[str]:
    """Return the dimensions that a query selects."""
    names = [one.name for one in query.one("dimensions").selected]
    for name in names:
        if name not in DIMENSIONS or name in lacking:
            raise QueryError(f'account does not have access to the path, unknown field "{name}"')
    if query.leaves() > _MOST_FIELDS:
        raise QueryError(f"number of fields can't be more than {_MOST_FIELDS}")
    if query.args.get("orderBy") != ["datetime_ASC"]:
        raise QueryError("error parsing args: orderBy")
    return names


def _bound(asked: Mapping[str, Any], name: str) -> int:
    try:
        return parse_moment(asked[name]) // 1_000_000
    except (KeyError, ValueError):
        raise QueryError(f"error parsing args: {name} is no Time") from None


def answered(groups: Sequence[Mapping[str, Any]]) -> bytes:
    """Return groups as JSON; the bytes of what is not a group stand as they are."""
    return b"[" + b",".join(one.get("raw") or orjson.dumps(one) for one in groups) + b"]"


def error_body(message: str, code: str = "") -> bytes:
    """Return an answer that has errors and nothing else."""
    error = {"message": message, "path": ["viewer", "accounts", "0"]}
    return orjson.dumps({"data": None, "errors": [{**error, "extensions": {"code": code}}]})


def query_of(body: bytes) -> Field:
    """Return the query in a request's body.

    Raises:
        QueryError: it cannot be read.
        BadParameterError: the body is not JSON.

    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadParameterError("the body is not JSON") from None
    return parse(str(content.get("query", "")), content.get("variables") or {})


def anonymous_rows(
    company: Company, seed: int, account: str, second: int, rate: float
) -> list[TimedRow]:
    """Return the logins of one epoch second; a few are of people, which nobody asks for here.

    The same arguments return the same rows. `rate` is the average number of rows a second.
    """
    draw = seeded(seed, account, "anonymous", second)
    made = (_login(company, draw, second) for _ in range(whole_number(draw, rate)))
    return [(second * 1_000_000, row) for row in made]


def _login(company: Company, draw: Random, second: int) -> dict[str, Any]:
    number, kind = draw.randrange(len(company.service_tokens)), draw.random()
    row: dict[str, Any] = {
        **dict.fromkeys(_TEXTS, ""),
        **dict.fromkeys(_FLAGS, 0),
        "datetime": format_moment(second * 1_000_000, digits=0),
        "cfRayId": f"{draw.getrandbits(64):016x}",
        "appId": draw.choice(company.applications).uid,
        "ipAddress": f"2001:db8:5e::{number + 1:x}",
        "country": "US",
        "identityProvider": "nonidentity",
        "mtlsStatus": "NONE",
        "isSuccessfulLogin": int(draw.random() < 0.8),  # noqa: PLR2004 - most
    }
    if kind < 0.5:  # noqa: PLR2004 - half of them
        return row | {"serviceTokenId": stable_id(company.domain, "token", str(number))}
    if kind < 0.6:  # noqa: PLR2004 - some
        return row | {"mtlsStatus": "SUCCESS", "mtlsCommonName": f"probe{number}.example.com"}
    if kind < 0.9:  # noqa: PLR2004 - blocked before anybody was known
        return row | {"isSuccessfulLogin": 0}
    person = draw.choice(company.people)
    return row | {"identityProvider": person.connection, "userUuid": person.id}
