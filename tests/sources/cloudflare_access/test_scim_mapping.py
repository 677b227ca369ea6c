"""A row of the SCIM log becomes an event that says what was asked for, read leniently."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.schema import Bodies, Provisioning
from forwarder.testing.samples import SCIM, SCIM_UPDATES, event_of
from tests.formats.strategies import scim_rows
from tests.formats.styles import STYLES
from tests.sources.cloudflare_access.scim_bodies import CASES, GROUP, USER, Case, patch

_OFF = {"op": "Replace", "path": "active", "value": "False"}


def _change(row: dict[str, Any]) -> Provisioning:
    event = event_of("scim_updates", row)
    assert isinstance(event, Provisioning)
    return event


def _row(case: Case) -> dict[str, Any]:
    text = case.body if isinstance(case.body, str | None) else json.dumps(case.body)
    return {
        **SCIM,
        "resource_type": case.resource,
        "http_method": case.method,
        "request_body": text,
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_request_means_what_its_sender_means(case: Case) -> None:
    change = _change(_row(case))

    assert change.activity == case.activity
    assert change.changed == tuple(sorted(case.changed.split()))
    members = change.members_added, change.members_removed, change.members_set
    assert members == (case.added, case.removed, case.all)
    assert (change.user_name, change.email) == (case.user, case.email)


def test_a_body_that_is_no_text_is_read_and_named() -> None:
    change = _change({**SCIM_UPDATES["scim_user_disable"], "request_body": {"Operations": [_OFF]}})

    assert change.activity == "disable"
    assert change.quality == ("request_body",)


def test_a_hostile_body_is_read_in_no_time_and_fails_nobody() -> None:
    deep = "active"
    for wrap in ('{"value":%s}', "[%s]", '{"urn:a:b":%s}'):
        body: str = "false"
        for _ in range(900):
            body = wrap % body
        for path in (deep, "members", "urn:a:b"):
            text = json.dumps(patch({"op": "replace", "path": path, "value": 0}))
            assert _change({**_row(CASES[2]), "request_body": text.replace(": 0", ": " + body)})
    for text in ('{"a":1,' * 100_000, "[" * 100_000, '{"a":"' + "\\" * 100_000, "," * 100_000):
        assert _change({**_row(CASES[2]), "request_body": text}).activity == "update"


def test_the_row_names_the_user_before_the_body_does() -> None:
    body = json.dumps({"userName": "other", "emails": [{"value": "other@example.com"}]})
    named = _change({**SCIM_UPDATES["scim_user_create"], "request_body": body})
    half = _change({**named.row, "resource_user_email": "ann"})

    assert (named.user_name, named.email) == ("ann@example.com", "ann@example.com")
    assert (half.user_name, half.email) == ("ann", "other@example.com")


def test_what_is_hidden_names_nobody() -> None:
    row = _row(CASES[0])
    row["request_body"] = json.dumps({"userName": "[removed]", "emails": ["[removed]"]})

    assert _change(row).user_name == ""
    assert _change(_row(CASES[0])).showing(Bodies.NOTHING).user_name == ""


_ATTRIBUTES = {
    "title": "Lead",
    "active": False,
    "name": {"familyName": "Perez"},
    "displayName": "Maria",
}


@st.composite
def _spelled(draw: st.DrawFn, attribute: str, value: Any) -> dict[str, Any]:
    """Spell the operation that replaces ``attribute`` in one of the ways of RFC 7644."""
    sub = ""
    if isinstance(value, dict) and draw(st.booleans()):
        (sub, value), *_ = value.items()
        sub = f".{sub}"
    name = draw(st.sampled_from([attribute, attribute.lower(), attribute.upper()]))
    name = draw(st.sampled_from([name, f"{USER}:{name}"]))
    op = draw(st.sampled_from(["replace", "Replace"]))
    if sub or draw(st.booleans()):
        return {"op": op, "path": name + sub, "value": value}
    return {"op": op, "value": {name: value}}


@st.composite
def _requests(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Give bodies that all ask for the same."""
    chosen = draw(st.lists(st.sampled_from(sorted(_ATTRIBUTES)), min_size=1, unique=True))
    whole = patch({"op": "replace", "value": {name: _ATTRIBUTES[name] for name in chosen}})
    apart = patch(
        *(draw(_spelled(name, _ATTRIBUTES[name])) for name in draw(st.permutations(chosen)))
    )
    return [whole, apart]


@st.composite
def _memberships(draw: st.DrawFn) -> list[dict[str, Any]]:
    ids = draw(st.lists(st.sampled_from(["u-1", "u-2", "u-3"]), min_size=1, unique=True))
    op = draw(st.sampled_from(["add", "remove"]))
    values = [{"value": identity} for identity in ids]
    name = draw(st.sampled_from(["members", "Members", f"{GROUP}:members"]))
    apart = [{"op": op, "path": name, "value": [value]} for value in values]
    if op == "remove":
        apart = [{"op": op, "path": f'{name}[value eq "{identity}"]'} for identity in ids]
    return [patch({"op": op, "path": "members", "value": values}), patch(*apart)]


@given(
    st.one_of(st.tuples(st.just("USER"), _requests()), st.tuples(st.just("GROUP"), _memberships()))
)
def test_bodies_that_rfc_7644_calls_equivalent_give_the_same_event(
    given: tuple[str, list[dict[str, Any]]],
) -> None:
    resource, bodies = given
    row = {**SCIM, "resource_type": resource, "http_method": "PATCH"}
    events = [
        _change({**row, "request_body": json.dumps(body)})._replace(
            id="0" * 32, request_body="", body_bytes=0, row=row
        )
        for body in bodies
    ]

    for style in STYLES.values():
        assert len({style.render(event) for event in events}) == 1


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


@given(scim_rows)
def test_any_row_is_an_event_and_nothing_is_lost(row: dict[str, Any]) -> None:
    change = _change(row)

    for key, value in row.items():
        if value is not None and not isinstance(value, str):
            assert key in change.extra
