"""What a SCIM request asked for, read out of its method and body as leniently as can be.

Identity providers differ: ``"op": "Replace"`` in any case, ``"value": "False"`` as a text, a path
or an object without one, members in ``members[value eq "id"]``. What cannot be read says nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from forwarder.core.masking import mask_request_body
from forwarder.core.provisioning import Member

_MEMBER_FILTER = re.compile(r'members\[\s*value\s+eq\s+"([^"]*)"\s*\]', re.IGNORECASE)
_BOOLEANS = {"true": True, "false": False}
_RESOURCES = {"USER": "user", "GROUP": "group"}
_METHODS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}


class Asked(NamedTuple):
    """What a request asked for: see ``forwarder.core.provisioning.Provisioning``.

    ``body`` is the request's, masked; ``whole`` says that all of it was JSON.
    """

    resource: str
    activity: str
    members: tuple[Member, ...] = ()
    body: str = ""
    whole: bool = False


def read_asked(resource_type: str, method: str, text: str) -> Asked:
    """Return what was asked of a resource with ``method`` (in capitals) and the body ``text``."""
    masked = mask_request_body(text)
    value, whole = _read_json(masked)
    resource = _RESOURCES.get(resource_type.upper(), "")
    activity = _METHODS.get(method, "") if resource else ""
    if activity != "update":
        return Asked(resource, activity, (), masked, whole)
    return Asked(resource, *_read_update(resource, method, list(_changes(value))), masked, whole)


def _read_json(text: str) -> tuple[Any, bool]:
    """Return the JSON value at the start of ``text`` and whether the whole of it was JSON."""
    try:
        return orjson.loads(text), True
    except ValueError:
        pass
    try:
        return json.JSONDecoder().raw_decode(text.lstrip())[0], False
    except (ValueError, RecursionError):
        return None, False


def _read_update(
    resource: str, method: str, changes: list[tuple[str, str, Any]]
) -> tuple[str, tuple[Member, ...]]:
    """Return activity and members of a change of something that stays."""
    if resource == "group":
        return _read_group_change(changes) if method == "PATCH" else ("update", ())
    active = [_boolean(value) for _, attribute, value in changes if attribute == "active"]
    if active and active[-1] is not None:
        return "enable" if active[-1] else "disable", ()
    return "update", ()


def _read_group_change(
    changes: list[tuple[str, str, Any]],
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
