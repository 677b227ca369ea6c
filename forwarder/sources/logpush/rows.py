"""Rows of Logpush's datasets: from lines to records, and from records to events. Pure.

Which key is a row's time, what makes two rows one, and what the values are called elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import is_
from typing import Any, NamedTuple

import orjson

from forwarder.core.identity import Identifier, dumps
from forwarder.core.masking import mask_row, mask_value
from forwarder.core.schema import AdminActivity, Login, Normaliser, Origin
from forwarder.core.source_contract import Records
from forwarder.core.source_contract import joined as array_of
from forwarder.core.timing import EARLIEST_US, LATEST_US, format_us, parse_us
from forwarder.sources.cloudflare_access.activity_mapping import mask_audit, normalise_audit
from forwarder.sources.cloudflare_access.login_mapping import normalise_login
from forwarder.sources.cloudflare_access.repair import malformed_row, repair_row, rewritten
from forwarder.sources.logpush.body import Body, Overlong

_OPENING = frozenset("{[")
_TIMES = (
    "Datetime",
    "Timestamp",
    "EdgeStartTimestamp",
    "CreatedAt",
    "ActionTimestamp",
    "SessionEndTime",
    "DetectedTimestamp",
    "EventTimestampMs",
    "When",
)
"""Names of the time in Cloudflare's datasets, the most usual ones first."""
# Seconds, milliseconds, microseconds and nanoseconds of the years 1973 to 5138 never overlap.
_UNITS = ((10**11, 1_000_000, 1), (10**14, 1000, 1), (10**17, 1, 1), (10**20, 1, 1000))

Row = Mapping[str, Any]


class Native(NamedTuple):
    """What makes two rows of a dataset the same row: equal values of ``keys``.

    With ``whole`` all other values must be equal, too: the keys are there, but not unique.
    """

    keys: tuple[str, ...]
    whole: bool = False


NATIVE: Mapping[str, Native] = {
    "audit_logs": Native(("ID",)),
    "audit_logs_v2": Native(("AuditLogID",)),
    # Subrequests of a Worker share the ray of their request.
    "http_requests": Native(("RayID",), whole=True),
    "zero_trust_network_sessions": Native(("SessionID", "SessionEndTime")),
}
"""Datasets whose rows have an id of their own; of all others a row is known by its hash alone."""


class Read(NamedTuple):
    """Rows of some lines.

    ``twins`` are the indices of rows that only a hash tells apart, ``malformed`` counts rows that
    could not be read as they came, ``cut`` those that were too long.
    """

    records: Records
    twins: frozenset[int]
    malformed: int
    cut: int


class RowReader:
    """Reads the rows of one dataset of one account."""

    def __init__(self, account_id: str, stream: str, dataset: str) -> None:
        """Remember what all rows share."""
        self._identifier = Identifier(account_id, stream)
        self._native = NATIVE.get(dataset)
        self._mask = mask_activity if dataset == "audit_logs_v2" else mask_nested

    def read(self, lines: Sequence[bytes | Overlong]) -> Read:
        """Return the rows of some lines of one body."""
        rows, malformed, text = _rows_of(lines)
        cut = sum(isinstance(line, Overlong) for line in lines)
        return Read(*self._records(rows, text), malformed, cut)

    def given_up(self, why: str, body: Body) -> Records:
        """Return the one malformed row that stands for a body nobody can read."""
        row = malformed_row(why, body.beginning)
        about = {"bytes": body.size, "sha256": body.fingerprint}
        return self._records([{**row, **about}], b"")[0]

    def _records(self, rows: Sequence[Row], text: bytes) -> tuple[Records, frozenset[int]]:
        """Return records and twins; ``text`` is the JSON of the rows, or empty."""
        identified = self._identifier.identified(rows)
        identities, twins = identified.identities, frozenset(range(len(rows)))
        if self._native is not None:
            named = [self._identity(self._native, row) for row in rows]
            twins = frozenset(index for index, one in enumerate(named) if one is None)
            identities = [a or b for a, b in zip(named, identities, strict=True)]
        # After the identities: a mask that learns a new word must not give old rows new ids.
        masked = list(map(self._mask, rows))
        lengths = identified.lengths
        if not text or not all(map(is_, masked, rows)):
            parts = list(map(dumps, masked))
            text, lengths = array_of(parts), list(map(len, parts))
        times = list(map(time_us_of, rows))
        return Records(text, lengths, times, identities, identified.keys, masked), twins

    def _identity(self, native: Native, row: Row) -> bytes | None:
        """Return the identity that a row's own id gives it, None if it has none."""
        if not all(row.get(key) for key in native.keys):
            return None
        if native.whole:
            return self._identifier.identity(row)
        return self._identifier.identity({key: row[key] for key in native.keys})


def joined(reads: Sequence[Read]) -> Read:
    """Return several reads of one body as one."""
    if len(reads) == 1:
        return reads[0]
    records = [read.records for read in reads]
    twins, first = set[int](), 0
    for read in reads:
        twins.update(index + first for index in read.twins)
        first += len(read.records)
    return Read(
        Records(
            array_of(one.text[1:-1] for one in records if len(one)),
            [length for one in records for length in one.lengths],
            [time for one in records for time in one.times_us],
            [identity for one in records for identity in one.identities],
            [keys for one in records for keys in one.keys],
            [row for one in records for row in one.parsed or ()],
        ),
        frozenset(twins),
        sum(read.malformed for read in reads),
        sum(read.cut for read in reads),
    )


def _rows_of(lines: Sequence[bytes | Overlong]) -> tuple[list[dict[str, Any]], int, bytes]:
    """Return a row for each line, how many are malformed, and the JSON of them all if at hand."""
    try:
        rows = [orjson.loads(line) for line in lines]  # type: ignore[arg-type]
    except (orjson.JSONDecodeError, TypeError):
        return _leniently(lines)
    if set(map(type, rows)) - {dict}:
        return _leniently(lines)
    body = b'{"result":[' + b",".join(lines) + b"]}"  # type: ignore[arg-type]
    # Digits beyond 64 bits and keys that stand twice would be changed without a word.
    text = rewritten({"result": rows}, body)
    return _leniently(lines) if text is None else (rows, 0, text)


def _leniently(lines: Sequence[bytes | Overlong]) -> tuple[list[dict[str, Any]], int, bytes]:
    read = [
        ({**malformed_row("the row is too long", line.beginning), "bytes": line.length}, False)
        if isinstance(line, Overlong)
        else repair_row(line)
        for line in lines
    ]
    return [row for row, _ in read], sum(not clean for _, clean in read), b""


def mask_nested(row: Row) -> Row:
    """Return ``row`` without secrets in its objects; the very same object if it has none.

    Bodies of requests and headers are such objects, also where they are JSON in a text. Any other
    value at the top has one of Cloudflare's names, which say nothing of secrets.
    """
    row = mask_row(row)
    found = {
        key: masked
        for key, value in row.items()
        if _is_object(value) and (masked := mask_value(value)) != value
    }
    return {**row, **found} if found else row


def _is_object(value: Any) -> bool:
    if isinstance(value, str):
        return value[:1] in _OPENING
    return isinstance(value, dict | list) and bool(value)


def time_us_of(row: Row) -> int | None:
    """Return a row's own time, in any of the formats that a job may ask for."""
    for key in _TIMES:
        if key in row:
            return moment_us(row[key])
    return None


def moment_us(value: Any) -> int | None:
    """Return microseconds for RFC 3339, or for a Unix time in s, ms, us or ns; else None."""
    if isinstance(value, str) and not value.isdecimal():
        return parse_us(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    # Never through a float: nanoseconds have 19 digits.
    number = int(value) if len(str(value)) <= len(str(2**64)) else 0
    for most, times, through in _UNITS:
        if 0 < number < most:
            time_us = number * times // through
            return time_us if EARLIEST_US <= time_us <= LATEST_US else None
    return None


# Some datasets are also read by requests. Logpush calls the same values differently: a row is
# renamed, and mapped as its twin is.

LOGIN_NAMES: Mapping[str, str] = {
    "Action": "action",
    "Allowed": "allowed",
    "AppDomain": "app_domain",
    "AppUUID": "app_uid",
    "Connection": "connection",
    "Country": "country",
    "CreatedAt": "created_at",
    "Email": "user_email",
    "IPAddress": "ip_address",
    "RayID": "ray_id",
    "UserUID": "user_id",
}
"""What the values of a login are called in a push, and in an answer of the API."""
_ONLY_PUSHED = frozenset(
    {
        "PurposeJustificationPrompt",
        "PurposeJustificationResponse",
        "TemporaryAccessApprovers",
        "TemporaryAccessDuration",
    }
)


def normalise_pushed_login(row: Row, origin: Origin, id: str, time_us: int) -> Login:  # noqa: A002
    """Return the login in a row of dataset ``access_requests``; see ``core.schema.Normalise``."""
    twin = {LOGIN_NAMES.get(key, key): value for key, value in row.items()}
    created_us = moment_us(twin.get("created_at"))
    # A job may ask for Unix times, and the common schema has texts.
    if created_us is not None and parse_us(twin["created_at"]) is None:
        twin["created_at"] = format_us(created_us)
    login = normalise_login(twin, origin, id, time_us)
    return login._replace(row=mask_nested(row))


ACTIVITY_NAMES: Mapping[str, tuple[str, str]] = {
    "AccountID": ("account", "id"),
    "AccountName": ("account", "name"),
    "ActionDescription": ("action", "description"),
    "ActionResult": ("action", "result"),
    "ActionTimestamp": ("action", "time"),
    "ActionType": ("action", "type"),
    "ActorContext": ("actor", "context"),
    "ActorEmail": ("actor", "email"),
    "ActorID": ("actor", "id"),
    "ActorIPAddress": ("actor", "ip_address"),
    "ActorType": ("actor", "type"),
    "ResourceID": ("resource", "id"),
    "ResourceProduct": ("resource", "product"),
    "ResourceRequest": ("resource", "request"),
    "ResourceResponse": ("resource", "response"),
    "ResourceScope": ("resource", "scope"),
    "ResourceType": ("resource", "type"),
    "ZoneID": ("zone", "id"),
    "ZoneName": ("zone", "name"),
}
"""Where an answer of the API has the values of an activity."""
_BODIES = ("ResourceRequest", "ResourceResponse")
_TOKEN_NAMES = {
    "id": "token_id",
    "tokenid": "token_id",
    "name": "token_name",
    "tokenname": "token_name",
}
_RAW_NAMES = {
    "cfrayid": "cf_ray_id",
    "rayid": "cf_ray_id",
    "method": "method",
    "uri": "uri",
    "statuscode": "status_code",
    "useragent": "user_agent",
}
# No document names the keys of these two objects, so that case and underscores do not count.
_OBJECTS = {"ActorTokenDetails": ("actor", _TOKEN_NAMES), "Raw": ("raw", _RAW_NAMES)}


def as_activity(row: Row) -> dict[str, Any]:
    """Return a row of dataset ``audit_logs_v2`` as an answer of the API would have it."""
    twin: dict[str, Any] = {}
    for key, value in row.items():
        if key == "AuditLogID":
            twin["id"] = value
        elif key in ACTIVITY_NAMES:
            section, name = ACTIVITY_NAMES[key]
            twin.setdefault(section, {})[name] = value
        elif key in _OBJECTS and isinstance(value, dict):
            section, names = _OBJECTS[key]
            twin.setdefault(section, {}).update(
                {names.get(one.replace("_", "").lower(), one): item for one, item in value.items()}
            )
        else:
            twin[key] = value
    action = twin.get("action", {})
    occurred_us = moment_us(action.get("time"))
    if occurred_us is not None and parse_us(action["time"]) is None:
        action["time"] = format_us(occurred_us)
    return twin


def mask_activity(row: Row) -> Row:
    """Return a row of dataset ``audit_logs_v2`` without secrets, by the rules of its twin."""
    twin = mask_audit(as_activity(row)).get("resource", {})
    bodies = {key: twin[ACTIVITY_NAMES[key][1]] for key in _BODIES if key in row}
    return mask_nested(row if all(row[k] == v for k, v in bodies.items()) else {**row, **bodies})


def normalise_pushed_activity(
    row: Row,
    origin: Origin,
    id: str,  # noqa: A002
    time_us: int,
) -> AdminActivity:
    """Return the activity in a row of dataset ``audit_logs_v2``."""
    return normalise_audit(as_activity(row), origin, id, time_us)._replace(row=mask_activity(row))


NORMALISERS: Mapping[str, Normaliser] = {
    "access_requests": Normaliser(normalise_pushed_login, _ONLY_PUSHED.union(LOGIN_NAMES)),
    "audit_logs_v2": Normaliser(
        normalise_pushed_activity, frozenset({"AuditLogID", *ACTIVITY_NAMES, *_OBJECTS})
    ),
}
"""How the rows of the datasets that are mapped become events."""
