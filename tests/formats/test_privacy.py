"""What a sink must not get, it does not get: in no format, in no disguise."""

from __future__ import annotations

import hmac
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.core.masking import REMOVED
from forwarder.formats.pipeline import Pipeline
from forwarder.formats.shape import EventFilter, Hider, Shape
from forwarder.testing.samples import (
    ACCOUNTS,
    LOGIN,
    LOGINS,
    NORMALISERS,
    SCIM,
    SCIM_UPDATES,
    page_of,
)
from tests.formats.strategies import texts
from tests.formats.styles import STYLES

_KEY = b"a key of no meaning"
_secrets = st.one_of(
    st.sampled_from(["Ann.Example@example.com", "ann@example.com", "o'neil+tag@example.com"]),
    st.text("abcdXYZ0189", min_size=10, max_size=20),
)


def _hash(text: str) -> str:
    return hmac.digest(_KEY, text.encode(), "sha256").hex()[:32]


def _bodies(stream: str, row: dict[str, Any], shape: Shape) -> list[str]:
    """Return what every format makes of ``row``, in small letters."""
    pipelines = [Pipeline(style, NORMALISERS, ACCOUNTS, shape) for style in STYLES.values()]
    page = page_of(stream, [row])
    return [event.body.decode().lower() for p in pipelines for event in p(page).events]


_around = st.tuples(texts, texts)


@given(
    secret=_secrets,
    around=_around,
    places=st.sets(st.sampled_from([*LOGIN, "note", "nested", "json", "upper"]), max_size=4),
    drop=st.booleans(),
)
def test_a_hidden_user_is_nowhere_in_a_login(
    secret: str, around: tuple[str, str], places: set[str], *, drop: bool
) -> None:
    before, after = around
    text = f"{before}{secret}{after}"
    row: dict[str, Any] = {**LOGIN, **dict.fromkeys(places & {*LOGIN, "note"}, text)}
    row |= {"nested": {text: [text]}} if "nested" in places else {}
    row |= {"json": json.dumps({"a": [text]})} if "json" in places else {}
    row |= {"upper": secret.upper()} if "upper" in places else {}
    row["user_email"] = secret
    shape = Shape(
        drop_fields=("user_email",) if drop else (),
        hash_fields=() if drop else ("user_email",),
        hash_key=_KEY,
    )

    bodies = _bodies("access_requests", row, shape)

    assert not [body for body in bodies if secret.lower() in body]
    assert drop or all(_hash(secret) in body for body in bodies)


@given(secret=_secrets, around=_around, member=st.booleans())
def test_a_hidden_user_is_nowhere_in_a_scim_change(
    secret: str, around: tuple[str, str], *, member: bool
) -> None:
    text = secret.join(around)
    body = {"userName": secret, "members" if member else "emails": [{"value": text}]}
    row = {
        **SCIM,
        "resource_type": "USER",
        "http_method": "POST",
        "resource_user_email": secret,
        "error_description": f"no such user: {secret}!",
        "request_body": json.dumps(body),
        "idp_resource_id": text,
    }
    for redact in (False, True):
        shape = Shape(
            hash_fields=("resource_user_email",), hash_key=_KEY, redact_request_body=redact
        )
        bodies = _bodies("scim_updates", row, shape)

        assert not [body for body in bodies if secret.lower() in body]


@settings(max_examples=settings().max_examples // 4)
@given(secret=st.text("abcdXYZ0189", min_size=12, max_size=20), broken=st.booleans())
def test_a_password_is_nowhere(secret: str, *, broken: bool) -> None:
    secret = f"qzq{secret}"
    body = json.dumps({"userName": "ann", "x": {"Client-Secret": secret}})
    row = {**SCIM_UPDATES["scim_user_create"], "request_body": body[:-1] if broken else body}

    for stream in NORMALISERS:
        bodies = _bodies(stream, row, Shape(redact_request_body=False))
        assert not [body for body in bodies if secret.lower() in body]


def test_what_hides_behind_escapes_in_a_broken_body_is_removed() -> None:
    row = {**LOGIN, "note": '{"user":"\\u0061nn@example.com"'}

    hidden = Hider(["user_email"], [], b"").hide(row)

    assert hidden["note"] == REMOVED


def test_bytes_of_an_unreadable_row_do_not_carry_a_hidden_value() -> None:
    bodies = _bodies(
        "access_requests",
        dict(LOGINS["login_unreadable"]),
        Shape(drop_fields=("user_email",)),
    )

    raw = LOGINS["login_unreadable"]["_forwarder_raw_base64"].lower()
    assert not [body for body in bodies if raw in body]


def test_a_hash_is_keyed_stable_and_the_same_in_every_format() -> None:
    shape = Shape(hash_fields=("user_email",), hash_key=_KEY)

    assert all(
        _hash("ann@example.com") in b for b in _bodies("access_requests", dict(LOGIN), shape)
    )
    assert Hider([], ["user_email"], b"other").hide(LOGIN)["user_email"] != _hash(
        LOGIN["user_email"]
    )


def test_short_values_are_hidden_where_they_stand_alone() -> None:
    row = {"country": "US", "other": "us", "text": "USER"}

    assert Hider(["country"], [], b"").hide(row) == {"other": REMOVED, "text": "USER"}


def test_paths_lead_into_objects_and_keep_the_rest() -> None:
    row = {"a": {"b": 17, "c": {"d": "secret text"}}, "e.f": "dotted", "g": "a secret text"}

    assert Hider(["a.c.d", "e.f"], ["a.b"], _KEY).hide(row) == {
        "a": {"b": _hash("17"), "c": {}},
        "g": f"a {REMOVED}",
    }


def test_a_row_without_the_fields_is_passed_on_as_it_is() -> None:
    row = {"a": 1}

    assert Hider(["b", "a.c"], ["d"], _KEY).hide(row) is row


def test_the_user_of_a_batch_event_is_hidden_too() -> None:
    shape = Shape(hash_fields=("user_email",), hash_key=_KEY)
    pipeline = Pipeline(STYLES["ocsf"], NORMALISERS, ACCOUNTS, shape)

    (event,) = pipeline(page_of("access_requests", [LOGIN])).events

    assert event.user == _hash(LOGIN["user_email"])


def test_filters_look_at_the_row_before_it_is_hidden() -> None:
    shape = Shape(only=EventFilter(app=("Kibana",)), drop_fields=("app_name", "app_domain"))
    pipeline = Pipeline(STYLES["ocsf"], NORMALISERS, ACCOUNTS, shape)

    (event,) = pipeline(page_of("access_requests", [LOGIN])).events

    assert b"ibana" not in event.body


@pytest.mark.parametrize("name", ["cef", "leef"])
def test_request_bodies_are_left_out_of_lines_unless_asked_for(name: str) -> None:
    page = page_of("scim_updates", [SCIM_UPDATES["scim_user_create"]])
    bodies = {
        redact: Pipeline(STYLES[name], NORMALISERS, ACCOUNTS, Shape(redact_request_body=redact))(
            page
        )
        .events[0]
        .body
        for redact in (None, True, False)
    }

    assert b"givenName" not in bodies[None]
    assert bodies[None] == bodies[True]
    assert b"givenName" in bodies[False]


def test_what_a_left_out_body_asked_for_is_still_known() -> None:
    page = page_of("scim_updates", [SCIM_UPDATES["scim_group_add_member"]])
    pipeline = Pipeline(STYLES["ocsf"], NORMALISERS, ACCOUNTS, Shape(redact_request_body=True))

    event = orjson.loads(pipeline(page).events[0].body)

    assert event["type_uid"] == 300603
    assert event["user"] == {"uid": "u-1"}
