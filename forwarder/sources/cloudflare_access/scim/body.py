"""What a SCIM request asked for, read out of its method and body.

Identity providers spell the same request in many ways, most of which RFC 7644 allows: an attribute
in any case, with its schema's URN or without, as a path or as a member of ``value``, one operation
or several. Some are not allowed and still sent: ``"op": "Replace"``, ``"value": "False"``.
All spellings of one request give the same ``Request``. What cannot be read says nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from forwarder.core.masking import MASK, REMOVED
from forwarder.core.schema import Member, is_email, only, without_names

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
_USUAL_NAMES = frozenset(_SPELLED)
_NO_ATTRIBUTES = frozenset({"schemas", "id", "meta"})
"""Keys of a resource that only say which one it is."""
_new_tuple = tuple.__new__
_LONGEST_NAME = 200
"""Of a path that is remembered."""
_SMALL_NAMES = frozenset(
    {"$ref", "display", "op", "operations", "path", "primary", "schemas", "type", "value"}
)
_IS_VALUE = re.compile(r'\bvalue\s+eq\s+"([^"]*)"', re.IGNORECASE)


class Change(NamedTuple):
    """One change that a request asked for.

    ``operation`` is ``add``, ``remove`` or ``replace``; ``attribute`` has the RFC's spelling, after
    the schema's URN if it is not a core schema; ``ids`` are those that a path's filter names.
    """

    operation: str
    attribute: str
    value: Any
    ids: tuple[str, ...] = ()


class Members(NamedTuple):
    """Whom a request added to a group, removed from it, and set as all of its members.

    ``sets`` is True if it says who all members are, be it nobody.
    """

    added: tuple[Member, ...] = ()
    removed: tuple[Member, ...] = ()
    set: tuple[Member, ...] = ()
    sets: bool = False

    @property
    def all(self) -> tuple[Member, ...]:
        """Return all members that the request names."""
        return self.added + self.removed + self.set

    @property
    def email(self) -> str:
        """Return the name of the only member if it is an e-mail address."""
        member = only(self.added + self.removed, self.set)
        return member.display if member and is_email(member.display) else ""


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

    def names_of(self, row_email: str) -> tuple[str, str]:
        """Return name and e-mail address of the user; ``row_email`` is what the row says."""
        user_name = row_email or self.user_name or self.email
        return user_name, row_email if is_email(row_email) else self.email

    def without_names(self) -> Request:
        """Return this request as if it had named nobody; ids stay."""
        added, removed, settled, sets = self.members
        bare = without_names(added), without_names(removed), without_names(settled)
        return self._replace(members=Members(*bare, sets), user_name="", email="")


def read_request(resource_type: str, method: str, body: Any) -> Request:
    """Return what was asked of a resource with ``method`` (in capitals) and a masked ``body``."""
    resource = _RESOURCES.get(resource_type.upper(), "")
    value, whole = _decoded(body)
    changes = _changes(value, method) if resource else []
    changed = tuple(sorted({change.attribute for change in changes}))
    activity = _METHODS.get(method, "") if resource else ""
    if resource == "group":
        members = _members(changes)
        if method == "PATCH":
            activity = _group_activity(changed, members)
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


def _changes(body: Any, method: str) -> list[Change]:
    """Return the changes that a body asks for: its operations, or each attribute of a resource."""
    operations = _operations(body) if method == "PATCH" else None
    if operations is None:
        return _of_object("replace", body) if isinstance(body, dict) else []
    found = []
    for operation in operations if isinstance(operations, list) else [operations]:
        if isinstance(operation, dict):
            found += _of_operation(_by_small_name(operation))
    return found


def _operations(body: Any) -> Any:
    """Return the operations of a PATCH, None if it has none."""
    if not isinstance(body, dict):
        return body if isinstance(body, list) else None
    given = _by_small_name(body)
    return given.get("operations", body if "op" in given else None)


def _of_operation(given: Mapping[str, Any]) -> list[Change]:
    operation = str(given.get("op")).strip().lower()
    path, value = given.get("path"), given.get("value")
    if operation not in {"add", "remove", "replace"}:
        return []
    # RFC 7644 lets add and replace do without a path; then `value` has the attributes.
    if isinstance(path, str) and path.strip():
        return _of_path(operation, path.strip(), value)
    return _of_object(operation, value) if isinstance(value, dict) else []


def _of_object(operation: str, value: Mapping[str, Any], urn: str = "") -> list[Change]:
    """Return a change for each member of a resource, or of a part of one."""
    found = []
    for key, item in value.items():
        if urn:
            # What is within a schema is an attribute, however deep a hostile body nests objects.
            found += _of_path(operation, f"{urn}:{key}", item, within=True)
        elif key in _USUAL_NAMES:
            found.append(_new_tuple(Change, (operation, key, item, ())))
        else:
            found += _of_path(operation, key, item)
    return found


def _of_path(operation: str, path: str, value: Any, *, within: bool = False) -> list[Change]:
    """Return the change of ``path``: ``urn:...:User:name.familyName``, ``emails[...].value``."""
    head, _, rest = path.partition("[")
    read = _attribute if len(head) <= _LONGEST_NAME else _attribute.__wrapped__
    attribute, sub, is_schema = read(head)
    if is_schema and not within and isinstance(value, dict):
        return _of_object(operation, value, path)  # the path is a whole schema, not a member
    if not attribute:
        return []
    sub = sub or rest.rpartition("]")[2].lstrip(".")
    ids = tuple(_IS_VALUE.findall(rest)) if rest else ()
    return [Change(operation, attribute, {sub: value} if sub else value, ids)]


@lru_cache(512)
def _attribute(head: str) -> tuple[str, str, bool]:
    """Return attribute and sub-attribute of a path up to its filter, True if it may be a schema.

    The attribute is empty if it only says which resource it is.
    """
    # The URN first: it has a dot itself, in `2.0`, that leads to no sub-attribute.
    urn, _, name = head.rpartition(":")
    name, _, sub = name.partition(".")
    attribute = _NAMES.get(name.lower(), name.lower())
    is_schema = bool(urn) and name.lower() not in _NAMES
    if attribute in _NO_ATTRIBUTES:
        return "", sub, is_schema
    if urn and not _CORE.fullmatch(urn):
        urn = _ENTERPRISE if urn.lower() == _ENTERPRISE.lower() else urn.lower()
        attribute = f"{urn}:{attribute}"
    return attribute, sub, is_schema


def _by_small_name(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values by key in small letters; of two such keys the first counts."""
    if _SMALL_NAMES.issuperset(given):
        return given
    return {key.lower(): value for key, value in reversed(list(given.items()))}


# What they mean for a user.


def _user_activity(method: str, changed: tuple[str, ...], changes: Sequence[Change]) -> str:
    """Tell switching a user off, or on, from any other change."""
    if "active" not in changed:
        return "update"
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
    if len(given) > 1:
        given.sort(key=lambda item: _boolean(item.get("primary")) is not True)
    # Sorting is stable: of several that are not primary, the first stays the first.
    return [item["value"].strip() for item in given if isinstance(item.get("value"), str)]


# What they mean for a group.


def _group_activity(changed: tuple[str, ...], members: Members) -> str:
    """Tell a change that only adds members, or only removes some, from any other."""
    if changed == ("members",) and not members.sets:
        if members.added and not members.removed:
            return "add_member"
        if members.removed and not members.added:
            return "remove_member"
    return "update"


def _members(changes: Iterable[Change]) -> Members:
    added, removed, settled = dict[str, Member](), dict[str, Member](), dict[str, Member]()
    sets = False
    for change in changes:
        if change.attribute == "members":
            named = _named(change)
            # By RFC 7644 a remove that names nobody empties the whole attribute.
            if change.operation == "replace" or not (named or change.operation == "add"):
                kind, sets = settled, True
            else:
                kind = added if change.operation == "add" else removed
            for member in named:
                kind.setdefault(member.value, member)
    return Members(tuple(added.values()), tuple(removed.values()), tuple(settled.values()), sets)


def _named(change: Change) -> list[Member]:
    """Return the members that a change names, in its path's filter or in its value."""
    if change.ids:
        return list(map(Member, change.ids))
    # RFC 7644 removes a member by the path's filter; Entra ID names it in `value`.
    found = []
    for item in change.value if isinstance(change.value, list) else [change.value]:
        given = _by_small_name(item) if isinstance(item, dict) else {"value": item}
        identity, display, kind = given.get("value"), given.get("display"), given.get("type")
        if identity.__class__ is str:
            if identity:
                display = display if display.__class__ is str else ""
                kind = kind.capitalize() if kind.__class__ is str else ""
                # Without the call of Python code that Member(...) is: a group may have thousands.
                found.append(_new_tuple(Member, (identity, display, kind)))
        elif isinstance(identity, list):  # of a path like members.value
            found += [Member(one) for one in identity if isinstance(one, str) and one]
    return found
