"""What a SCIM request asked for.

What a SCIM request asked for, read out of its method and body as leniently as can be.

Identity providers differ: ``"op": "Replace"`` in any case, ``"value": "False"`` as a text, a path
or an object without one, members in ``members[value eq "id"]``. What cannot be read says nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import orjson

from forwarder.core.schema import Member

_MEMBER_FILTER = re.compile(r'members\[\s*value\s+eq\s+"([^"]*)"\s*\]', re.IGNORECASE)
_BOOLEANS = {"true": True, "false": False}
_RESOURCES = {"USER": "user", "GROUP": "group"}
_METHODS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}


Change: TypeAlias = tuple[str, str, Any]
"""Operation, attribute (both in small letters) and value."""


class Asked(NamedTuple):
    """What a request asked for: see ``core.schema.Provisioning``.

    ``whole`` is True if the body was JSON from end to end.
    """

    resource: str
    activity: str
    members: tuple[Member, ...] = ()
    whole: bool = False


def read_request(resource_type: str, method: str, body: str) -> Asked:
    """Return what was asked of a resource with ``method`` (in capitals) and a masked ``body``."""
    try:
        value, whole = orjson.loads(body), True
    except ValueError:
        value, whole = _read_start(body), False
    resource = _RESOURCES.get(resource_type.upper(), "")
    activity = _METHODS.get(method, "") if resource else ""
    members: tuple[Member, ...] = ()
    if activity == "update":
        if resource == "user":
            activity = _read_user_change(value)
        elif method == "PATCH":
            activity, members = _read_group_change(_changes(value))
    return Asked(resource, activity, members, whole)


def _read_start(text: str) -> Any:
    """Return the JSON value at the start of ``text``, None if there is none."""
    try:
        return json.JSONDecoder().raw_decode(text.lstrip())[0]
    except (ValueError, RecursionError):
        return None


def _read_user_change(body: Any) -> str:
    """Tell being switched on or off from any other change of a user."""
    if not isinstance(body, dict):
        return "update"
    given = _by_small_name(body)
    if len(given) < len(body) or isinstance(given.get("operations"), list):
        given = {attribute: value for _, attribute, value in _changes(body)}
    state = _boolean(given.get("active"))
    return "update" if state is None else "enable" if state else "disable"


def _read_group_change(
    changes: list[Change],
) -> tuple[str, tuple[Member, ...]]:
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
        return "update", tuple(added + removed)
    return "add_member" if added else "remove_member", tuple(added + removed)


def _changes(body: Any) -> list[Change]:
    """Return the changes that a PATCH's operations ask for, or a whole resource."""
    if not isinstance(body, dict):
        return []
    operations = _by_small_name(body).get("operations")
    if not isinstance(operations, list):
        return [("replace", key.lower(), value) for key, value in body.items()]
    return [change for operation in operations for change in _operation(operation)]


def _operation(operation: Any) -> list[Change]:
    """Return the changes of one operation."""
    if not isinstance(operation, dict):
        return []
    given = _by_small_name(operation)
    kind, path, value = given.get("op"), given.get("path"), given.get("value")
    kind = kind.lower() if isinstance(kind, str) else ""
    if isinstance(path, str) and path:
        return [(kind, path if _MEMBER_FILTER.fullmatch(path) else path.lower(), value)]
    if isinstance(value, dict):
        return [(kind, key.lower(), item) for key, item in value.items()]
    return []


def _by_small_name(given: dict[str, Any]) -> dict[str, Any]:
    """Return the values by key in small letters; of two such keys the first counts."""
    found = {key.lower(): value for key, value in given.items()}
    if len(found) == len(given):
        return found
    return {key.lower(): value for key, value in reversed(given.items())}


def _members(value: Any) -> Iterator[Member]:
    for item in value if isinstance(value, list) else [value]:
        given = _by_small_name(item) if isinstance(item, dict) else {"value": item}
        identity, display = given.get("value"), given.get("display")
        if isinstance(identity, str) and identity:
            yield Member(identity, display if isinstance(display, str) else "")


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, dict):
        value = _by_small_name(value).get("value")
    if isinstance(value, list) and len(value) == 1:
        return _boolean(value[0])
    return value if isinstance(value, bool) else _BOOLEANS.get(str(value).strip().lower())
