"""No secret of a SCIM body survives masking; everything else does."""

from __future__ import annotations

import base64
import gzip
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
    mask_columns,
    mask_error,
    mask_request_body,
    mask_row,
    mask_value,
)
from forwarder.core.schema import RAW_BYTES_KEY

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


@pytest.mark.parametrize(
    "name",
    [
        *("Cookie", "set-cookie", "Cookies", "psk", "sign_key", "X-Auth-Key"),
        *("CF-Access-Client-Secret", "Cf-Access-Jwt-Assertion"),
    ],
)
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


_KEY = f"-----BEGIN EC PRIVATE KEY-----\nMHcC{_SECRET}\n-----END EC PRIVATE KEY-----"


@pytest.mark.parametrize(
    "text",
    [
        f"https://ann:{_SECRET}@host.example/x",
        f"see postgres://:{_SECRET}@[::1]:5432/db and more",
        f"/x#access_token={_SECRET}",
        f"client_secret={_SECRET}&a=b",
        f"/x?api%5Ftoken={_SECRET}&a=b",
        f"https://b.example/o?X-Amz-Date=1&X-Amz-Signature={_SECRET}",
        f"https://hooks.slack.com/services/T0/B0/{_SECRET}",
        f"sumo://c.example/receiver/v1/http/{_SECRET}",
        f"https://acme.webhook.office.com/webhookb2/{_SECRET}",
        f"the key: {_KEY}",
        f"{_KEY[:60]}",
        f"Host: a\r\nX-Auth-Key: {_SECRET}\r\nAccept: b",
        f"authorization:Bearer {_SECRET}",
        f"it said Bearer {_SECRET}{'0' * 16}",
        json.dumps(json.dumps({"password": _SECRET})),
        f'\ufeff{{"password":"{_SECRET}"}}',
    ],
)
def test_what_is_a_secret_by_its_form_is_masked_wherever_it_stands(text: str) -> None:
    row = {"top": text, "inside": {"list": [text], "json": json.dumps({"x": {"y": text}})}}
    masked = mask_columns(row, named=False)
    slashes = json.dumps({"url": text}).replace("/", "\\/")

    assert _SECRET not in repr(masked)
    assert _SECRET not in mask_request_body(json.dumps({"x": text}))
    assert _SECRET not in mask_request_body(slashes)
    assert _SECRET not in mask_error(text)
    assert mask_columns(masked, named=False) is masked


_forms = st.sampled_from(
    [
        *("Basic dXNlcjpwYXNzd29yZHh4", "BASIC\tdXNlcjpwYXNzd29yZHh4", "BEARER abcdefghijklmnop"),
        *("cookie:session", "x-auth-key:abc", "-----BEGIN PRIVATE KEY-----MIIEvQIBADANBg"),
        *('{"password":"x"}', '"{\\"password\\":\\"x\\"}"', "token=abc", "x://a:b@c"),
        *("2026-01-01T00:00:00Z", "2001:db8::1", "login", "1", "said", "", " ", "\t", "\n"),
    ]
)


@given(parts=st.lists(_forms | st.text(max_size=3), max_size=4))
def test_a_text_is_masked_alike_at_the_top_of_a_row_and_inside_of_it(parts: list[str]) -> None:
    """No shortcut for the short texts at the top may pass over one of the forms."""
    row = {"remark": "".join(parts)}

    assert mask_columns({"inside": row}, named=False)["inside"] == mask_columns(row, named=False)


@pytest.mark.parametrize("scheme", ["Basic", "BASIC", "bearer", "BEARER", "Basic\t"])
def test_what_follows_a_scheme_is_masked_however_it_is_written(scheme: str) -> None:
    row = {"remark": f"{scheme} {_SECRET}{'0' * 16}"}

    assert mask_columns(row, named=False) == {"remark": f"{scheme} {MASK}"}


@pytest.mark.parametrize(
    "text",
    [
        *("https://host.example:8443/a@b", "ann@example.com", "2001:db8::1", "a=b", "rv:109.0"),
        *(
            "Basic authentication",
            "Token: rotate them",
            "2026-01-01T00:00:00Z",
            "x://a:b",
            "?code=7",
        ),
        "-----BEGIN CERTIFICATE-----\nMHcC\n-----END CERTIFICATE-----",
    ],
)
def test_texts_without_a_secret_stay(text: str) -> None:
    row = {"a": text, "b": {"c": text}}

    assert mask_columns(row) is row


def test_the_names_of_a_row_count_and_what_stands_beside_a_name_does_not() -> None:
    row = {"type": "api_token", "name": "ci token", "id": "1", "token_id": "2", "token_name": "ci"}

    assert mask_columns(row) is row
    assert mask_columns({**row, "api_token": _SECRET}) == {**row, "api_token": MASK}
    assert mask_columns({"client_secret": "x"}, named=False) == {"client_secret": "x"}


@pytest.mark.parametrize(
    "value",
    [
        {"name": "token", "decision": "bypass", "include": [{"everyone": {}}]},
        {"name": "passwords.xlsx", "SHA256": "ab", "Detection": "MALICIOUS"},
        {"path": "/etc/passwd", "exists": True, "sha256": "ab"},
        {"include": [{"service_token": {"token_id": "1"}}, {"any_valid_service_token": {}}]},
        {"service_token_id": "1", "service_token_name": "ci", "signing_key_id": "2"},
        {"permissions": {"tokens": {"read": True, "edit": False}}},
        {"config": {"token_url": "https://idp.example/token", "authorization_server_id": "a"}},
    ],
)
def test_a_name_hides_nothing_but_a_value_beside_it(value: dict[str, Any]) -> None:
    """Otherwise whoever names a policy decides what of it a SIEM sees."""
    named = {**value, "name": "client_secret", "value": _SECRET}

    assert mask_value(value) == value
    assert mask_value(named) == {**named, "value": MASK}
    assert _SECRET not in repr(mask_value({"service_token": {"token_id": "1", "x": _SECRET}}))


@pytest.mark.parametrize(
    "text", ["[EXTERNAL] Your password", "{staff} reset the token", "[2026] a secret"]
)
def test_words_behind_a_bracket_are_no_broken_json(text: str) -> None:
    row = {"Subject": text, "inside": [text]}

    assert mask_columns(row, named=False) is row
    assert mask_error(text) == text
    assert _SECRET not in repr(mask_value([f"[1, {{'password': '{_SECRET}'", f"{text}={_SECRET}"]))


@pytest.mark.parametrize("text", [f' {{"password":"{_SECRET}"}}', f"Basic {_SECRET}0123456789"])
def test_a_row_is_searched_wherever_a_text_in_it_is(text: str) -> None:
    assert _SECRET not in repr(mask_columns({"a": text}, named=False))


def test_a_packed_body_that_holds_a_secret_is_taken_out() -> None:
    """Anybody can unpack it, also if it is cut short or broken."""
    whole = gzip.compress(json.dumps({"password": _SECRET}).encode() * 99)
    harmless = gzip.compress(b'{"a":1}')
    raw = {
        name: base64.b64encode(data).decode()
        for name, data in {"whole": whole, "cut": whole[:-9], "broken": whole[:20] + whole}.items()
    }

    for name, data in raw.items():
        assert mask_row({RAW_BYTES_KEY: data}) == {RAW_BYTES_KEY: UNREADABLE}, name
    kept = {RAW_BYTES_KEY: base64.b64encode(harmless).decode()}
    assert mask_row(kept) is kept


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
