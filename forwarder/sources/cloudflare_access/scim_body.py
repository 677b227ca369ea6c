"""What a SCIM request asked for, read out of its method and body.

Identity providers spell the same request in many ways, most of which RFC 7644 allows: an attribute
in any case, with its schema's URN or without, as a path or as a member of ``value``, one operation
or several. Some are not allowed and sent all the same: ``"op": "Replace"``, ``"value": "False"``.
All spellings of one request give the same ``Request``. What cannot be read says nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from forwarder.core.masking import MASK, REMOVED
from forwarder.core.schema import Member, is_email

_RESOURCES = {"USER": "user", "GROUP": "group"}
_METHODS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_BOOLEANS = {"true": True, "false": False}
_HIDDEN = frozenset({MASK, REMOVED})

_CORE = re.compile(r"urn:ietf:params:scim:schemas:core:2\.0:(?:user|group)", re.IGNORECASE)
_ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
_SPELLED = (
    *("active", "addresses", "costCenter", "department", "displayName", "division", "emails"),
    *("employeeNumber", "entitlements", "externalId", "groups", "ims", "locale", "manager"),
    *("members", "name", "nickName", "organization", "password", "phoneNumbers", "photos"),
    *("preferredLanguage", "profileUrl", "roles", "timezone", "title", "userName", "userType"),
    "x509Certificates",
)
_NAMES = {name.lower(): name for name in _SPELLED}
"""Attributes of RFC 7643 as it spells them; their case does not matter."""
_NO_ATTRIBUTES = frozenset({"schemas", "id", "meta"})
"""Keys of a resource that only say which one it is."""
_IS_VALUE = re.compile(r'\bvalue\s+eq\s+"([^"]*)"', re.IGNORECASE)


class Change(NamedTuple):
    """One change that a request asked for.

    ``operation`` is ``add``, ``remove`` or ``replace``; ``attribute`` has the RFC's spelling, after
    the schema's URN if it is none of the core; ``ids`` are those that a path's filter names.
    """

    operation: str
    attribute: str
    value: Any
    ids: tuple[str, ...] = ()


class Members(NamedTuple):
    """Whom a request added to a group, removed from it, and set as all of its members."""

    added: tuple[Member, ...] = ()
    removed: tuple[Member, ...] = ()
    set: tuple[Member, ...] = ()


class Request(NamedTuple):
    """What a request asked for: see ``core.schema.Provisioning``.

    ``whole`` is True if the body was a JSON object from end to end.
    """

    resource: str
    activity: str
    changed: tuple[str, ...] = ()
    members: Members = Members()
    user_name: str = ""
    email: str = ""
    whole: bool = False


def read_request(resource_type: str, method: str, body: Any) -> Request:
    """Return what was asked of a resource with ``method`` (in capitals) and a masked ``body``."""
    resource = _RESOURCES.get(resource_type.upper(), "")
    value, whole = _decoded(body)
    changes = list(_changes(value, method)) if resource else []
    changed = tuple(sorted({change.attribute for change in changes}))
    activity = _METHODS.get(method, "") if resource else ""
    if resource == "group":
        members = _members(changes)
        if method == "PATCH":
            activity = _group_activity(changed, changes, members)
        return Request(resource, activity, changed, members, whole=whole)
    if activity == "update":
        activity = _user_activity(method, changed, changes)
    user_name, email = _names(changes)
    return Request(resource, activity, changed, Members(), user_name, email, whole)


def _decoded(body: Any) -> tuple[Any, bool]:
    """Return the value of a body, and True if nothing of it was broken."""
    if not isinstance(body, str):
        return body, False  # the row should have a text
    try:
        value = orjson.loads(body)
    except ValueError:
        return _read_broken(body), False
    # Some clients encode a body twice.
    return (
        (_decoded(value)[0], False) if isinstance(value, str) and value != body else (value, True)
    )


def _read_broken(text: str) -> Any:
    """Return the value at the start of ``text``, or what is left of one that was cut short."""
    text = text.lstrip()
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except (ValueError, RecursionError):
        pass
    # A body that was cut short: close what is open, or leave out its last member, too.
    closing, comma = _open_ends(text)
    for completed in (text + closing, text[:comma] + _open_ends(text[:comma])[0]):
        try:
            return orjson.loads(completed)
        except ValueError:
            continue
    return None


def _open_ends(text: str) -> tuple[str, int]:
    """Return the brackets that close ``text``, and the place of its last comma between members."""
    closing: list[str] = []
    comma, in_text, escape = 0, False, False
    for at, char in enumerate(text):
        if in_text:
            in_text = escape or char != '"'
            escape = char == "\\" and not escape
        elif char == '"':
            in_text = True
        elif char in "{[":
            closing.append("}" if char == "{" else "]")
        elif char in "}]" and closing:
            closing.pop()
        elif char == ",":
            comma = at
    return "".join(reversed(closing)), comma


# Which changes.


def _changes(body: Any, method: str) -> Iterator[Change]:
    """Return the changes that a body asks for: its operations, or each attribute of a resource."""
    if isinstance(body, list):
        operations: Any = body
    elif not isinstance(body, dict):
        return
    else:
        given = _by_small_name(body)
        operations = given.get("operations", body if "op" in given else None)
    if method != "PATCH" or operations is None:
        yield from _of_object("replace", body if isinstance(body, dict) else {})
        return
    for operation in operations if isinstance(operations, list) else [operations]:
        if isinstance(operation, dict):
            yield from _of_operation(_by_small_name(operation))


def _of_operation(given: Mapping[str, Any]) -> Iterator[Change]:
    operation = str(given.get("op")).strip().lower()
    path, value = given.get("path"), given.get("value")
    if operation not in {"add", "remove", "replace"}:
        return
    # RFC 7644 lets add and replace do without a path; then `value` has the attributes.
    if isinstance(path, str) and path.strip():
        yield from _of_path(operation, path.strip(), value)
    elif isinstance(value, dict):
        yield from _of_object(operation, value)


def _of_object(operation: str, value: Mapping[str, Any], urn: str = "") -> Iterator[Change]:
    """Return a change for each member of a resource, or of a part of one."""
    for key, item in value.items():
        # What is within a schema is an attribute, however deep a hostile body nests objects.
        yield from _of_path(operation, f"{urn}:{key}" if urn else key, item, within=bool(urn))


def _of_path(operation: str, path: str, value: Any, *, within: bool = False) -> Iterator[Change]:
    """Return the change of ``path``: ``urn:...:User:name.familyName``, ``emails[...].value``."""
    head, _, rest = path.partition("[")
    # The URN first: it has a dot itself, in `2.0`, that leads to no sub-attribute.
    urn, _, name = head.rpartition(":")
    name, _, sub = name.partition(".")
    sub = sub or rest.rpartition("]")[2].lstrip(".")
    if not within and urn and name.lower() not in _NAMES and isinstance(value, dict):
        yield from _of_object(operation, value, path)  # the path is a whole schema, not a member
        return
    attribute = _NAMES.get(name.lower(), name.lower())
    if attribute in _NO_ATTRIBUTES:
        return
    if urn and not _CORE.fullmatch(urn):
        urn = _ENTERPRISE if urn.lower() == _ENTERPRISE.lower() else urn.lower()
        attribute = f"{urn}:{attribute}"
    if sub:
        value = {sub: value}
    yield Change(operation, attribute, value, tuple(_IS_VALUE.findall(rest)))


def _by_small_name(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by key in small letters; of two such keys the first counts."""
    return {key.lower(): value for key, value in reversed(list(given.items()))}


# What they mean for a user.


def _user_activity(method: str, changed: tuple[str, ...], changes: Iterable[Change]) -> str:
    """Tell switching a user off, or on, from any other change."""
    states = [
        _boolean(change.value)
        for change in changes
        if change.attribute == "active" and change.operation != "remove"
    ]
    # RFC 7644 applies operations in order, so the last one decides.
    state = next((state for state in reversed(states) if state is not None), None)
    if state is False:
        return "disable"
    # Identity providers send "active": true along with any change of a user who is active, and PUT
    # always has the whole user: neither says that the user was not active before.
    return "enable" if state and method == "PATCH" and changed == ("active",) else "update"


def _boolean(value: Any) -> bool | None:
    if isinstance(value, dict):
        value = _by_small_name(value).get("value")
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
        if isinstance(value, dict):
            value = _by_small_name(value).get("value")
    return value if isinstance(value, bool) else _BOOLEANS.get(str(value).strip().lower())


def _names(changes: Iterable[Change]) -> tuple[str, str]:
    """Return the ``userName`` and an e-mail address that the body gives a user, if it does."""
    values = {change.attribute: change.value for change in changes if change.operation != "remove"}
    user_name, emails = values.get("userName"), values.get("emails")
    user_name = user_name.strip() if isinstance(user_name, str) else ""
    found = [text for text in _addresses(emails) if is_email(text)]
    if is_email(user_name):
        found.append(user_name)
    return "" if user_name in _HIDDEN else user_name, found[0] if found else ""


def _addresses(emails: Any) -> list[str]:
    """Return the texts of ``emails``, the primary one first."""
    given = [
        _by_small_name(item) if isinstance(item, dict) else {"value": item}
        for item in (emails if isinstance(emails, list) else [emails])
    ]
    given.sort(key=lambda item: _boolean(item.get("primary")) is not True)
    # Sorting is stable: of several that are not primary, the first stays the first.
    return [item["value"].strip() for item in given if isinstance(item.get("value"), str)]


# What they mean for a group.


def _group_activity(changed: tuple[str, ...], changes: Iterable[Change], members: Members) -> str:
    """Tell a change that only adds members, or only removes some, from any other."""
    if changed == ("members",) and not any(map(_sets_members, changes)):
        if members.added and not members.removed:
            return "add_member"
        if members.removed and not members.added:
            return "remove_member"
    return "update"


def _members(changes: Iterable[Change]) -> Members:
    found: dict[str, dict[str, Member]] = {"add": {}, "remove": {}, "set": {}}
    for change in changes:
        if change.attribute == "members":
            kind = "set" if _sets_members(change) else change.operation
            for member in _named(change):
                found[kind].setdefault(member.value, member)
    return Members(*(tuple(named.values()) for named in found.values()))


def _sets_members(change: Change) -> bool:
    """Return True if a change says who all members are; removing nobody by name removes all."""
    if change.attribute != "members":
        return False
    named = change.ids or any(True for _ in _named(change))
    # By RFC 7644 a remove that names nobody empties the whole attribute.
    return change.operation == "replace" or (change.operation == "remove" and not named)


def _named(change: Change) -> Iterator[Member]:
    """Return the members that a change names, in its path's filter or in its value."""
    if change.ids:
        yield from map(Member, change.ids)
        return
    # RFC 7644 removes a member by the path's filter; Entra ID names it in `value`.
    for item in change.value if isinstance(change.value, list) else [change.value]:
        given = _by_small_name(item) if isinstance(item, dict) else {"value": item}
        identity = given.get("value")
        if isinstance(identity, list):  # of a path like members.value
            yield from (Member(one) for one in identity if isinstance(one, str) and one)
        elif isinstance(identity, str) and identity:
            display, kind = given.get("display"), given.get("type")
            yield Member(
                identity,
                display if isinstance(display, str) else "",
                kind.capitalize() if isinstance(kind, str) else "",
            )
