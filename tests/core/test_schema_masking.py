"""No secret of a SCIM body survives masking; everything else does."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.masking import (
    MASK,
    UNREADABLE,
    is_secret_name,
    mask_error,
    mask_request_body,
    mask_row,
    mask_value,
)

_SECRET = "qZ7-hunter2"
_names = st.sampled_from(
    [
        "password",
        "PASS_WORD",
        "client_secret",
        "X-Api-Key",
        "refreshToken",
        "pin",
        "urn:ietf:params:scim:schemas:extension:acme:2.0:User:password",
        "pass\nword",
    ]
)
_values = st.sampled_from(
    [_SECRET, [_SECRET], {"value": _SECRET}, [{"a": [_SECRET]}], f'{{"x":"{_SECRET}"}}']
)
_innocent = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text("abc {}[]\"\\'é", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner),
    max_leaves=6,
)


@st.composite
def _bodies(draw: st.DrawFn) -> str:
    """A SCIM body with a secret somewhere in it."""
    hidden: Any = draw(
        st.one_of(
            st.builds(lambda name, value: {name: value}, _names, _values),
            st.builds(
                lambda name, value: {"op": "replace", "value": value, "path": name}, _names, _values
            ),
            st.builds(lambda name, value: {"Value": value, "Path": name}, _names, _values),
        )
    )
    for _ in range(draw(st.integers(0, 3))):
        hidden = draw(
            st.sampled_from(
                [
                    [hidden],
                    {"Operations": [hidden]},
                    {"a": hidden, "b": 1},
                    {"c": json.dumps(hidden)},
                ]
            )
        )
    return json.dumps({"before": draw(_innocent), "body": hidden})


@given(_bodies())
def test_a_secret_never_survives(body: str) -> None:
    assert _SECRET not in mask_request_body(body)


@given(_bodies(), st.text(max_size=3))
def test_nor_does_it_in_a_broken_document(body: str, junk: str) -> None:
    escaped = body.replace("o", "\\u006f")
    for text in (body, escaped):
        assert _SECRET not in mask_request_body(text + junk)
        assert _SECRET not in mask_request_body(text.rstrip("}]") + junk)
        assert _SECRET not in mask_request_body(text.replace('"', "'"))


@given(_bodies())
def test_nor_behind_escapes_or_a_repeated_key(body: str) -> None:
    escaped = body.replace("a", "\\u0061").replace("o", "\\u006f")
    repeated = f'{{"x":{body},"x":1}}'

    assert _SECRET not in mask_request_body(escaped)
    assert _SECRET not in mask_request_body(repeated)


@given(st.one_of(_bodies(), st.text(max_size=30), _innocent.map(json.dumps)))
def test_masking_twice_changes_nothing(body: str) -> None:
    masked = mask_request_body(body)

    assert mask_request_body(masked) == masked


@given(_innocent)
def test_what_names_no_secret_keeps_its_meaning(value: Any) -> None:
    assert json.loads(mask_request_body(json.dumps(value))) == value


@pytest.mark.parametrize("body", ["", "{}}", "{}", "nonsense", '{"active": false}', "[1, 2"])
def test_what_names_no_secret_comes_back_as_it_is(body: str) -> None:
    assert mask_request_body(body) == body


@pytest.mark.parametrize(
    ("body", "masked"),
    [
        ('{"password":"x","a":1}', {"password": MASK, "a": 1}),
        ('{"password":null,"token":true}', {"password": None, "token": True}),
        (
            '{"Operations":[{"op":"replace","path":"password","value":"x"}]}',
            {"Operations": [{"op": "replace", "path": "password", "value": MASK}]},
        ),
        (
            '{"path":"passwords[value eq \\"x\\"].display","op":"remove"}',
            {"path": f"passwords[{MASK}].display", "op": "remove"},
        ),
        (
            '{"path":"members[value eq \\"token-user\\"]","op":"remove"}',
            {"path": 'members[value eq "token-user"]', "op": "remove"},
        ),
    ],
)
def test_only_the_secret_is_masked(body: str, masked: dict[str, Any]) -> None:
    assert orjson.loads(mask_request_body(body)) == masked


def test_an_unreadable_document_that_names_a_secret_is_replaced() -> None:
    assert mask_request_body('{"password":"x"') == UNREADABLE


def test_depth_is_no_hiding_place() -> None:
    body = '{"a":' * 300 + f'{{"password":"{_SECRET}"}}' + "}" * 300

    assert _SECRET not in mask_request_body(body)
    assert _SECRET not in mask_request_body("[" * 5000 + body)


@pytest.mark.parametrize("name", ["Cookie", "set-cookie", "psk", "CF-Access-Client-Secret"])
def test_session_cookies_and_shared_keys_are_secrets_in_objects_and_in_texts(name: str) -> None:
    assert is_secret_name(name)
    assert _SECRET not in mask_request_body(json.dumps({"headers": {name: _SECRET}}))


@pytest.mark.parametrize(
    "name",
    [
        *("userName", "displayName", "passport", "emails", "active"),
        *("http_only_cookie_attribute", "same_site_cookie_attribute"),
    ],
)
def test_ordinary_names_are_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "value",
    [
        {"headers": [["Authorization", f"Bearer {_SECRET}"], ["Accept", "a/b"]]},
        {"headers": [f"X-Api-Key: {_SECRET}"]},
        {"headers": ["a: b", f"authorization:  Basic\n{_SECRET}"]},
        {"url": f"https://host.example/x?a=1&API_KEY={_SECRET}&b=2#c"},
        [{"uri": f"/x?client_secret={_SECRET}"}],
    ],
)
def test_headers_in_lists_and_parameters_of_addresses_are_masked(value: Any) -> None:
    masked = mask_value(value)

    assert _SECRET not in repr(masked)
    assert mask_value(masked) == masked


@pytest.mark.parametrize(
    "value",
    [
        ["token", "password"],
        [["reader", "writer"], ["a", "b"]],
        ["tokens:read", "API tokens: all of them", "urn:x:token: y"],
        {"url": "https://host.example/tokens?page=2&per_page=50"},
    ],
)
def test_lists_of_names_and_ordinary_addresses_stay(value: Any) -> None:
    assert mask_value(value) == value


@pytest.mark.parametrize("scheme", ["Bearer", "basic", "Splunk"])
def test_in_an_error_the_value_behind_the_scheme_is_masked(scheme: str) -> None:
    masked = mask_error(f"the header Authorization: {scheme} {_SECRET} was refused")

    assert masked == f"the header Authorization: {scheme} {MASK} was refused"
    assert mask_error(masked) == masked


def test_a_row_is_masked_in_its_body_and_in_its_bytes() -> None:
    body = f'{{"password":"{_SECRET}"}}'
    raw = base64.b64encode(body.encode()).decode()

    masked = mask_row({"request_body": body, "_forwarder_raw_base64": raw, "a": 1})

    assert masked == {
        "request_body": f'{{"password":"{MASK}"}}',
        "_forwarder_raw_base64": UNREADABLE,
        "a": 1,
    }
    assert mask_row({"request_body": {"password": _SECRET}}) == {"request_body": {"password": MASK}}


@pytest.mark.parametrize("row", [{}, {"request_body": "{}"}, {"request_body": 1, "a": "b"}])
def test_a_row_with_nothing_to_mask_is_passed_on(row: dict[str, Any]) -> None:
    assert mask_row(row) is row


def test_a_body_of_nothing_but_backslashes_is_searched_in_linear_time() -> None:
    """A tenth of it took half a minute, in which nothing else could run."""
    began = time.thread_time()

    mask_request_body("password" + "\\" * 400_000)

    assert time.thread_time() - began < 2.0
