"""A row of the SCIM log becomes an event that says what was asked for, read leniently."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from forwarder.core.schema import Member, Provisioning
from forwarder.testing.samples import SCIM, SCIM_UPDATES, event_of
from tests.formats.strategies import scim_rows


def _change(row: dict[str, Any]) -> Provisioning:
    event = event_of("scim_updates", row)
    assert isinstance(event, Provisioning)
    return event


def _asked(resource: str, method: str, body: Any) -> tuple[str, tuple[Member, ...]]:
    text = body if isinstance(body, str) else json.dumps(body)
    row = {**SCIM, "resource_type": resource, "http_method": method, "request_body": text}
    change = _change(row)
    return change.activity, change.members


def _patch(**operation: Any) -> dict[str, Any]:
    return {"Operations": [operation]}


@pytest.mark.parametrize(
    ("method", "body", "activity"),
    [
        ("POST", {"active": False}, "create"),
        ("PUT", {"active": False}, "disable"),
        ("PUT", {"active": "True"}, "enable"),
        ("PUT", {"title": "x"}, "update"),
        ("PATCH", _patch(op="Replace", path="active", value="False"), "disable"),
        ("PATCH", _patch(op="replace", value={"active": True}), "enable"),
        ("PATCH", _patch(op="replace", path="Active", value=[{"value": "false"}]), "disable"),
        ("PATCH", _patch(op="replace", path="active", value="maybe"), "update"),
        ("PATCH", {"operations": [{"OP": "replace", "Path": "title"}, 17]}, "update"),
        ("PATCH", "not json", "update"),
        ("DELETE", "", "delete"),
        ("GET", "", ""),
    ],
)
def test_what_was_asked_for_a_user(method: str, body: Any, activity: str) -> None:
    assert _asked("USER", method, body) == (activity, ())


_ANN, _BOB = Member("u-1", "Ann"), Member("u-2")
_BOTH = [{"value": "u-1", "display": "Ann"}, {"value": "u-2"}]


@pytest.mark.parametrize(
    ("body", "activity", "members"),
    [
        (_patch(op="Add", path="members", value=_BOTH), "add_member", (_ANN, _BOB)),
        (_patch(op="add", value={"members": _BOTH}), "add_member", (_ANN, _BOB)),
        (_patch(op="Remove", path="Members", value=_BOTH[:1]), "remove_member", (_ANN,)),
        (_patch(op="remove", path='members[value eq "u-2"]'), "remove_member", (_BOB,)),
        (_patch(op="remove", path="members"), "update", ()),
        (_patch(op="replace", path="members", value=_BOTH), "update", ()),
        (_patch(op="replace", value={"displayName": "x"}), "update", ()),
        (
            {
                "Operations": [
                    {"op": "add", "path": "members", "value": "u-2"},
                    {"op": "replace", "path": "displayName", "value": "x"},
                ]
            },
            "update",
            (_BOB,),
        ),
    ],
)
def test_what_was_asked_for_a_group(body: Any, activity: str, members: tuple[Member, ...]) -> None:
    assert _asked("GROUP", "PATCH", body) == (activity, members)


def test_the_live_name_of_the_method_comes_first() -> None:
    row = {**SCIM, "resource_type": "USER"}

    assert _change({**row, "http_method": "post", "request_method": "PUT"}).method == "POST"
    assert _change({**row, "http_method": None, "request_method": "PUT"}).method == "PUT"
    assert "http_method" in _change(row).quality


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("SUCCESS", "success"), ("FAILURE", "failure"), ("ERROR", "failure"), ("PENDING", "unknown")],
)
def test_both_words_for_failure_are_known(status: str, outcome: str) -> None:
    assert _change({**SCIM, "status": status}).outcome == outcome


def test_a_body_with_something_behind_it_is_read_and_named() -> None:
    row = {**SCIM_UPDATES["scim_user_disable"]}
    row["request_body"] += "}"

    change = _change(row)

    assert change.activity == "disable"
    assert change.quality == ("request_body",)


@given(scim_rows)
def test_any_row_is_an_event_and_nothing_is_lost(row: dict[str, Any]) -> None:
    change = _change(row)

    for key, value in row.items():
        if value is not None and not isinstance(value, str):
            assert key in change.extra
