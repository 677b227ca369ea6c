"""Requests as identity providers send them, after their documentation, and what they mean."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from forwarder.core.schema import Member

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


class Case(NamedTuple):
    """One request: who sends it, what it is, and what it means."""

    name: str
    resource: str
    method: str
    body: Any
    activity: str
    changed: str
    added: tuple[Member, ...] = ()
    removed: tuple[Member, ...] = ()
    all: tuple[Member, ...] = ()
    user: str = ""
    email: str = ""


def patch(*operations: Any) -> dict[str, Any]:
    """Return the body of a PATCH."""
    schema = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
    return {"schemas": [schema], "Operations": list(operations)}


_LOPEZ = "maria.lopez@contoso.com"
_WHOLE: dict[str, Any] = {
    "schemas": [USER],
    "id": "23a35c27-23d3-4c03-b4c5-6443c09e7173",
    "userName": _LOPEZ,
    "name": {"givenName": "Maria", "familyName": "Lopez"},
    "emails": [{"primary": True, "value": _LOPEZ, "type": "work"}],
    "groups": [],
    "active": True,
    "meta": {"resourceType": "User"},
}
_NAMED: dict[str, Any] = {"user": _LOPEZ, "email": _LOPEZ}
_U1, _U2 = Member("u-100"), Member("u-101", _LOPEZ)
_ADD_U2 = {"op": "add", "path": "members", "value": [{"value": "u-101", "display": _LOPEZ}]}
_REMOVE_U1 = {"op": "remove", "path": 'members[value eq "u-100"]'}
_OFF = patch({"op": "replace", "path": "active", "value": False})

CASES = (
    # Okta
    Case(
        "okta creates a user",
        "USER",
        "POST",
        {**_WHOLE, "displayName": "Maria", "locale": "en-US", "password": "**********"},
        "create",
        "active displayName emails groups locale name password userName",
        **_NAMED,
    ),
    Case(
        "okta pushes a profile",
        "USER",
        "PUT",
        {**_WHOLE, "title": "Lead"},
        "update",
        "active emails groups name title userName",
        **_NAMED,
    ),
    Case(
        "okta deactivates",
        "USER",
        "PATCH",
        patch({"op": "replace", "value": {"active": False}}),
        "disable",
        "active",
    ),
    Case(
        "okta activates",
        "USER",
        "PATCH",
        patch({"op": "replace", "value": {"active": True}}),
        "enable",
        "active",
    ),
    Case(
        "okta syncs a password",
        "USER",
        "PATCH",
        patch({"op": "replace", "value": {"password": "**********"}}),
        "update",
        "password",
    ),
    Case(
        "okta deactivates by PUT",
        "USER",
        "PUT",
        {**_WHOLE, "active": False},
        "disable",
        "active emails groups name userName",
        **_NAMED,
    ),
    Case(
        "okta creates a group",
        "GROUP",
        "POST",
        {
            "schemas": [GROUP],
            "displayName": "QA",
            "members": [{"value": "u-101", "display": _LOPEZ}],
        },
        "create",
        "displayName members",
        all=(_U2,),
    ),
    Case(
        "okta renames a group",
        "GROUP",
        "PATCH",
        patch({"op": "replace", "value": {"id": "abf4dd94", "displayName": "QA"}}),
        "update",
        "displayName",
    ),
    Case(
        "okta adds a member",
        "GROUP",
        "PATCH",
        patch(_ADD_U2),
        "add_member",
        "members",
        added=(_U2,),
    ),
    Case(
        "okta removes a member",
        "GROUP",
        "PATCH",
        patch(_REMOVE_U1),
        "remove_member",
        "members",
        removed=(_U1,),
    ),
    Case(
        "okta swaps members",
        "GROUP",
        "PATCH",
        patch(_REMOVE_U1, _ADD_U2),
        "update",
        "members",
        added=(_U2,),
        removed=(_U1,),
    ),
    Case(
        "okta replaces members",
        "GROUP",
        "PATCH",
        patch({"op": "replace", "path": "members", "value": [{"value": "u-100"}]}),
        "update",
        "members",
        all=(_U1,),
    ),
    Case(
        "okta puts a group",
        "GROUP",
        "PUT",
        {"schemas": [GROUP], "displayName": "QA", "members": [{"value": "u-100"}]},
        "update",
        "displayName members",
        all=(_U1,),
    ),
    Case(
        "okta renames and adds",
        "GROUP",
        "PATCH",
        patch({"op": "replace", "value": {"displayName": "QA"}}, _ADD_U2),
        "update",
        "displayName members",
        added=(_U2,),
    ),
    # Entra ID
    Case(
        "entra creates a user",
        "USER",
        "POST",
        {
            "schemas": [USER, ENTERPRISE],
            "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef",
            "userName": "Test_User_ab6490ee-1e48-479e-a20b-2d77186b5dd1",
            "active": True,
            "emails": [{"primary": True, "type": "work", "value": _LOPEZ}],
            ENTERPRISE: {"department": "Sales"},
        },
        "create",
        f"active emails externalId {ENTERPRISE}:department userName",
        user="Test_User_ab6490ee-1e48-479e-a20b-2d77186b5dd1",
        email=_LOPEZ,
    ),
    Case(
        "entra updates attributes",
        "USER",
        "PATCH",
        patch(
            {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "new@contoso.com"},
            {"op": "Replace", "path": "name.familyName", "value": "Perez"},
            {"op": "Add", "path": f"{ENTERPRISE}:manager", "value": "u-1"},
        ),
        "update",
        f"emails name {ENTERPRISE}:manager",
        user="new@contoso.com",
        email="new@contoso.com",
    ),
    Case(
        "entra disables",
        "USER",
        "PATCH",
        patch({"op": "Replace", "path": "active", "value": "False"}),
        "disable",
        "active",
    ),
    Case(
        "entra updates somebody active",
        "USER",
        "PATCH",
        patch(
            {"op": "Replace", "path": "title", "value": "Lead"},
            {"op": "Replace", "path": "active", "value": "True"},
        ),
        "update",
        "active title",
    ),
    Case(
        "entra adds a member",
        "GROUP",
        "PATCH",
        patch({"op": "Add", "path": "members", "value": [{"$ref": None, "value": "u-100"}]}),
        "add_member",
        "members",
        added=(_U1,),
    ),
    Case(
        "entra removes a member",
        "GROUP",
        "PATCH",
        patch({"op": "Remove", "path": "members", "value": [{"$ref": None, "value": "u-100"}]}),
        "remove_member",
        "members",
        removed=(_U1,),
    ),
    Case(
        "entra sets an external id and adds",
        "GROUP",
        "PATCH",
        patch({"op": "Add", "value": {"externalId": "8aa1a0c0"}}, _ADD_U2),
        "update",
        "externalId members",
        added=(_U2,),
    ),
    # JumpCloud, OneLogin, Google
    Case(
        "jumpcloud puts a user",
        "USER",
        "PUT",
        _WHOLE,
        "update",
        "active emails groups name userName",
        **_NAMED,
    ),
    Case(
        "jumpcloud suspends",
        "USER",
        "PUT",
        {**_WHOLE, "active": False},
        "disable",
        "active emails groups name userName",
        **_NAMED,
    ),
    Case("jumpcloud deletes", "USER", "DELETE", "", "delete", ""),
    Case(
        "jumpcloud adds members",
        "GROUP",
        "PATCH",
        patch(
            {
                "op": "add",
                "path": "members",
                "value": [{"value": "u-100"}, {"value": "u-101", "display": _LOPEZ}],
            }
        ),
        "add_member",
        "members",
        added=(_U1, _U2),
    ),
    Case(
        "onelogin suspends",
        "USER",
        "PATCH",
        patch({"op": "replace", "path": "active", "value": "false"}),
        "disable",
        "active",
    ),
    Case(
        "onelogin nests a group",
        "GROUP",
        "PATCH",
        patch({"op": "add", "path": "members", "value": [{"value": "g-1", "type": "Group"}]}),
        "add_member",
        "members",
        added=(Member("g-1", "", "Group"),),
    ),
    Case(
        "google suspends",
        "USER",
        "PATCH",
        patch({"op": "replace", "value": {"active": False, "userName": _LOPEZ}}),
        "disable",
        "active userName",
        **_NAMED,
    ),
    Case("google deletes a group", "GROUP", "DELETE", None, "delete", ""),
    # Spellings of "off" that RFC 7644 allows, and some that it does not.
    Case(
        "a path with the schema's URN",
        "USER",
        "PATCH",
        patch({"op": "replace", "path": f"{USER}:active", "value": False}),
        "disable",
        "active",
    ),
    Case(
        "a member with the schema's URN",
        "USER",
        "PATCH",
        patch({"op": "replace", "value": {f"{USER}:active": False}}),
        "disable",
        "active",
    ),
    Case(
        "a member below the schema's URN",
        "USER",
        "PATCH",
        patch({"op": "replace", "value": {USER: {"active": False}}}),
        "disable",
        "active",
    ),
    Case(
        "a value within a value",
        "USER",
        "PATCH",
        patch({"op": "add", "path": "ACTIVE", "value": [{"value": "False"}]}),
        "disable",
        "active",
    ),
    Case(
        "a sub-attribute",
        "USER",
        "PATCH",
        patch({"op": "replace", "path": "active.value", "value": False}),
        "disable",
        "active",
    ),
    Case(
        "one operation that is not a list",
        "USER",
        "PATCH",
        {"operations": {"OP": "replace", "PATH": "active", "VALUE": False}},
        "disable",
        "active",
    ),
    Case(
        "operations without an object around",
        "USER",
        "PATCH",
        [{"op": "replace", "path": "active", "value": False}],
        "disable",
        "active",
    ),
    Case(
        "a body that was encoded twice",
        "USER",
        "PATCH",
        json.dumps(json.dumps(_OFF)),
        "disable",
        "active",
    ),
    Case("a body that was cut short", "USER", "PATCH", json.dumps(_OFF)[:-2], "disable", "active"),
    Case(
        "a body with something behind it",
        "USER",
        "PATCH",
        json.dumps(_OFF) + "}",
        "disable",
        "active",
    ),
    Case(
        "on and off again",
        "USER",
        "PATCH",
        patch(
            {"op": "replace", "path": "active", "value": True},
            {"op": "replace", "path": "active", "value": False},
        ),
        "disable",
        "active",
    ),
    # What says nothing about being on or off.
    Case("a user who is created inactive", "USER", "POST", {"active": False}, "create", "active"),
    Case(
        "a state that is none",
        "USER",
        "PATCH",
        patch({"op": "replace", "path": "active", "value": "maybe"}),
        "update",
        "active",
    ),
    Case(
        "a state that is removed",
        "USER",
        "PATCH",
        patch({"op": "remove", "path": "active"}),
        "update",
        "active",
    ),
    Case(
        "an operation that nobody knows",
        "USER",
        "PATCH",
        patch({"op": "move", "path": "active", "value": False}, 17),
        "update",
        "",
    ),
    Case("no JSON", "USER", "PATCH", "not json", "update", ""),
    Case("another method", "USER", "GET", "", "", ""),
    # Members, as RFC 7644 allows to name them.
    Case(
        "members with the schema's URN",
        "GROUP",
        "PATCH",
        patch({"op": "add", "path": f"{GROUP}:members", "value": [{"value": "u-100"}]}),
        "add_member",
        "members",
        added=(_U1,),
    ),
    Case(
        "members by name alone",
        "GROUP",
        "PATCH",
        patch({"op": "add", "value": {"members": [{"value": "u-100"}]}}),
        "add_member",
        "members",
        added=(_U1,),
    ),
    Case(
        "either of two members",
        "GROUP",
        "PATCH",
        patch({"op": "remove", "path": 'members[value eq "u-100" or VALUE EQ "u-7"]'}),
        "remove_member",
        "members",
        removed=(_U1, Member("u-7")),
    ),
    Case(
        "all members removed",
        "GROUP",
        "PATCH",
        patch({"op": "remove", "path": "members"}),
        "update",
        "members",
    ),
    Case(
        "all members replaced by none",
        "GROUP",
        "PATCH",
        patch({"op": "replace", "path": "members", "value": []}),
        "update",
        "members",
    ),
    Case(
        "one member that is not a list",
        "GROUP",
        "PATCH",
        patch({"op": "add", "path": "members", "value": "u-100"}),
        "add_member",
        "members",
        added=(_U1,),
    ),
)
