"""What a SCIM request asked for, read out of its method and body as leniently as can be.

Identity providers differ: ``"op": "Replace"`` in any case, ``"value": "False"`` as a text, a path
or an object without one, members in ``members[value eq "id"]``. What cannot be read says nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from forwarder.core.schema import Member

_MEMBER_FILTER = re.compile(r'members\[\s*value\s+eq\s+"([^"]*)"\s*\]', re.IGNORECASE)
_BOOLEANS = {"true": True, "false": False}
_METHODS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asked for: see ``forwarder.core.schema.Provisioning`` for the activities."""

    activity: str
    members: tuple[Member, ...] = ()


def read_body(text: str) -> tuple[Any, bool]:
    """Return the JSON value at the start of ``text`` and whether the whole of it was JSON."""
    try:
        return orjson.loads(text), True
    except ValueError:
        pass
    try:
        return json.JSONDecoder().raw_decode(text.lstrip())[0], False
    except (ValueError, RecursionError):
        return None, False


def read_request(resource: str, method: str, body: Any) -> Asked:
    """Return what was asked of a ``user`` or ``group`` with ``method`` (in capitals)."""
    activity = _METHODS.get(method, "") if resource else ""
    if activity != "update":
        return Asked(activity)
    changes = list(_changes(body))
    if resource == "group":
        return _read_group_change(changes) if method == "PATCH" else Asked(activity)
    active = [_boolean(value) for _, attribute, value in changes if attribute == "active"]
    if active and active[-1] is not None:
        return Asked("enable" if active[-1] else "disable")
    return Asked(activity)


def _read_group_change(changes: list[tuple[str, str, Any]]) -> Asked:
    """Tell a change of members only from any other change of a group."""
    added, removed, others = [], [], 0
    for operation, path, value in changes:
        found = _MEMBER_FILTER.fullmatch(path)
        named = [Member(found[1])] if found else list(_members(value))
        if path != "members" and not found:
            others += 1
        elif operation == "add":
            added += named
        elif operation == "remove":
            removed += named
        else:
            others += 1
    if others or not (added or removed) or (added and removed):
        return Asked("update", tuple(added + removed))
    return Asked("add_member" if added else "remove_member", tuple(added + removed))


def _changes(body: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield (operation, attribute, value) of a PATCH's operations, or of a whole resource."""
    if not isinstance(body, Mapping):
        return
    operations = _get(body, "operations")
    if not isinstance(operations, list):
        yield from (("replace", str(key).lower(), value) for key, value in body.items())
        return
    for operation in operations:
        if not isinstance(operation, Mapping):
            continue
        kind, path, value = (_get(operation, key) for key in ("op", "path", "value"))
        kind = kind.lower() if isinstance(kind, str) else ""
        if isinstance(path, str) and path:
            yield kind, path if _MEMBER_FILTER.fullmatch(path) else path.lower(), value
        elif isinstance(value, Mapping):
            yield from ((kind, str(key).lower(), item) for key, item in value.items())


def _get(given: Mapping[str, Any], name: str) -> Any:
    """Return the value of the key ``name`` in whatever case it is written."""
    return next((value for key, value in given.items() if str(key).lower() == name), None)


def _members(value: Any) -> Iterator[Member]:
    for item in value if isinstance(value, list) else [value]:
        given = item if isinstance(item, Mapping) else {"value": item}
        identity, display = _get(given, "value"), _get(given, "display")
        if isinstance(identity, str) and identity:
            yield Member(identity, display if isinstance(display, str) else "")


def _boolean(value: Any) -> bool | None:
    if isinstance(value, Mapping):
        value = _get(value, "value")
    if isinstance(value, list) and len(value) == 1:
        return _boolean(value[0])
    return value if isinstance(value, bool) else _BOOLEANS.get(str(value).strip().lower())
