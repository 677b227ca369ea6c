"""Rows of the SCIM log (``scim/updates``) as events of the common schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

from forwarder.core.login import Oddities, Origin, is_easy, is_email, oddities
from forwarder.core.masking import mask_row
from forwarder.core.schema import CHANGE_TEXTS, MALFORMED_KEY, Glimpse, Normaliser, Provisioning
from forwarder.core.timing import parse_us
from forwarder.sources.cloudflare_access.change_columns import read_changes
from forwarder.sources.cloudflare_access.change_reading import (
    ALWAYS,
    KNOWN_KEYS,
    METHODS,
    TEXTS,
    Body,
    are_distinct,
    outcome_of,
    read_body,
)

_NAMED = ("resource_user_email", "resource_group_name", "cf_resource_id")
"""Whom or what a row is about: the first that it has."""


def normalise_scim(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Provisioning:  # noqa: A002
    """Return the provisioning change in ``row``; see ``forwarder.core.schema.Normalise``."""
    row = mask_row(row)
    given = [_text(row.get(key)) for key in TEXTS]
    method = _method(row)
    texts = dict(zip(CHANGE_TEXTS, (*given[:-1], method, given[-1]), strict=True))
    body = read_body(texts["resource_type"], method, texts["request_body"])
    asked, email = body.asked, texts["user_email"]
    return Provisioning(
        origin,
        id=id,
        time_us=time_us,
        row=row,
        resource=asked.resource,
        activity=asked.activity,
        outcome=_outcome(row),
        members=asked.members,
        extra=_extra(row),
        has_address=is_email(email) is not None,
        body_bytes=len(texts["request_body"].encode("utf-8", "replace")),
        odd=_oddities(row, method, body),
        **texts,
    )


def _oddities(row: Mapping[str, Any], method: str, body: Body) -> Oddities:
    """Return what is wrong or missing, and whether a template can write the change."""
    texts = {key: _text(row.get(key)) for key in TEXTS}
    email, identity, content = (
        texts[key] for key in ("resource_user_email", "cf_resource_id", "request_body")
    )
    plain = (
        body.easy
        and is_easy("".join([*texts.values()][:-1]) + method, email, timed=True)
        and are_distinct(email, identity, body.members)
    )
    return oddities(
        _quality(row, texts, method, readable=body.asked.whole or not content),
        (*map(bool, [*texts.values()][:-1]), bool(method), bool(content)),
        has_extra=bool(_extra(row)),
        plain=plain,
    )


def glance_scim(rows: Sequence[Mapping[str, Any]], origin: Origin) -> Glimpse:
    """See ``forwarder.core.schema.Glance``. Rows whose values are texts take the shorter way."""
    accounts = repeat(origin.account)
    email, group, identity = _NAMED
    users = [row.get(email) or row.get(group) or row.get(identity) or "" for row in rows]
    statuses: list[Any] = [row.get("status") for row in rows]
    if set(map(type, users)) <= {str} and set(map(type, statuses)) <= {str}:
        outcomes = {status: outcome_of(status) for status in set(statuses)}
        return Glimpse(accounts, list(map(outcomes.__getitem__, statuses)), users)
    users = [next((row[key] for key in _NAMED if _text(row.get(key))), "") for row in rows]
    return Glimpse(accounts, [_outcome(row) for row in rows], users)


def _quality(
    row: Mapping[str, Any], texts: Mapping[str, str], method: str, *, readable: bool
) -> tuple[str, ...]:
    """Name what is missing or not what its key promises."""
    if MALFORMED_KEY in row:
        return ("malformed",)
    found = ["time"] if parse_us(texts["logged_at"]) is None else []
    found += [key for key in ALWAYS if not texts[key]]
    found += [key for key in TEXTS if not _fits(row.get(key)) and key not in (*ALWAYS, *found)]
    if not method:
        found.append("http_method")
    if not readable and "request_body" not in found:
        found.append("request_body")
    return tuple(found)


def _extra(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the schema has no place for: unknown keys, and values that are no texts."""
    return {key: value for key, value in row.items() if key not in KNOWN_KEYS or not _fits(value)}


def _method(row: Mapping[str, Any]) -> str:
    """Return the method in capitals: live rows have another key for it than the documented one."""
    return next((row[key] for key in METHODS if _text(row.get(key))), "").upper()


def _outcome(row: Mapping[str, Any]) -> str:
    return outcome_of(_text(row.get("status")))


def _fits(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


SCIM_UPDATES = Normaliser(normalise_scim, glance_scim, read_changes, KNOWN_KEYS)
"""How the rows of stream ``scim_updates`` become events."""
