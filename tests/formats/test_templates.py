"""Templates and the fast way to read a row give the very bytes that the mappings give."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.rows import changes
from forwarder.core.identity import members
from forwarder.core.schema import Bodies, Login, Normaliser, Provisioning
from forwarder.core.usual_rows import CHANGE_ARGUMENTS, LOGIN_ARGUMENTS, RowView
from forwarder.formats.pipeline import Pipeline
from forwarder.formats.shape import Shape, showing
from forwarder.formats.templates import EXTRA, ID, SEEN, TIME, line_writer
from forwarder.sources.cloudflare_access.login_mapping import LOGINS, view_login
from forwarder.sources.cloudflare_access.scim.mapping import SCIM_UPDATES, view_change
from forwarder.testing.samples import (
    ACCOUNTS,
    LOGIN,
    NORMALISERS,
    ROWS,
    SCIM,
    SEEN_US,
    event_of,
    page_of,
)
from tests.formats.strategies import (
    any_texts,
    logins,
    pages_of_rows,
    scim_rows,
    streams_and_rows,
    texts,
    usual_changes,
    usual_logins,
)
from tests.formats.styles import STYLES, TEMPLATED

_LOGINS, _CHANGES = "access_requests", "scim_updates"
_LACKING = (
    ("user_id", "country", "app_name", "app_type"),
    ("user_id", "country"),
    ("ray_id",),
    ("allowed", "app_uid"),
)
"""Keys that rows lack: all that are not documented, and others."""


def _view_change(row: dict[str, Any], bodies: Bodies) -> RowView:
    return RowView(*view_change(row, event_of(_CHANGES, row).time_us, SEEN_US, bodies))


def _view(row: dict[str, Any]) -> RowView:
    return RowView(*view_login(row, event_of(_LOGINS, row).time_us, SEEN_US, Bodies.WHOLE))


@given(logins, st.sampled_from([(), *_LACKING]))
def test_the_fast_way_reads_what_the_event_has(row: dict[str, Any], lacking: Any) -> None:
    row = {key: value for key, value in row.items() if key not in lacking}
    login, view = event_of(_LOGINS, row), _view(row)

    if view.shape is not None:
        assert isinstance(login, Login)
        assert view.arguments == tuple(getattr(login, name) for name in LOGIN_ARGUMENTS)
        assert view.extra == members(login.extra)


@given(usual_changes | scim_rows, st.sampled_from(Bodies))
def test_the_fast_way_reads_what_the_change_has(row: dict[str, Any], bodies: Bodies) -> None:
    change, view = showing(event_of(_CHANGES, row), bodies), _view_change(row, bodies)

    if view.shape is not None:
        assert isinstance(change, Provisioning)
        given = {name: getattr(change, name) for name in CHANGE_ARGUMENTS}
        given["request_body"] = orjson.dumps(change.request_body).decode()[1:-1]
        given["body_bytes"] = str(change.body_bytes)
        ids = [member.value for member in change.members]
        names = [member.display for member in change.members]
        assert view.arguments == (*given.values(), *ids, *names)
        assert view.extra == members(change.extra)


def test_one_odd_value_makes_a_change_unusual() -> None:
    many = [{"value": str(n)} for n in range(33)]
    groups: list[list[dict[str, str]]] = [
        many,
        [{"value": "a", "display": "a"}],
        [{"value": "a" * 64}],
        [{"value": "a", "display": "Ann"}, {"value": "b"}],
        [{"value": "a", "type": "User"}, {"value": "b", "type": "Group"}],
        [{"value": SCIM["cf_resource_id"]}],
    ]
    odd: list[tuple[str, Any]] = [
        ("logged_at", ""),
        ("logged_at", "soon"),
        ("http_method", None),
        ("request_method", "PUT"),
        ("resource_user_email", 'a"b'),
        ("resource_user_email", SCIM["cf_resource_id"]),
        ("resource_user_email", "x" * 64),
        ("status", 7),
        ("error_description", "password=hunter2"),
        ("error_description", "x" * 1000),
        ("request_body", {}),
        ("request_body", "{}}"),
        ("request_body", '{"a=b":1}'),
        ("_forwarder_malformed", "no JSON"),
        *(("request_body", orjson.dumps({"members": group}).decode()) for group in groups),
    ]
    row = {**SCIM, "resource_type": "GROUP", "http_method": "PUT", "request_body": "{}"}
    views = [_view_change({**row, key: value}, Bodies.WHOLE) for key, value in odd]

    assert _view_change(row, Bodies.WHOLE).shape is not None
    assert [pair for pair, view in zip(odd, views, strict=True) if view.shape is not None] == []


def test_changes_of_a_first_provisioning_are_usual() -> None:
    rows = [orjson.loads(text) for _, text in changes(200, 10**15)]

    assert [row for row in rows if _view_change(row, Bodies.WHOLE).shape is None] == []


@given(usual_logins, st.sampled_from([(), *_LACKING[:3]]))
def test_usual_rows_take_the_fast_way(row: dict[str, Any], lacking: tuple[str, ...]) -> None:
    row = {key: value for key, value in row.items() if key not in lacking}
    login = event_of(_LOGINS, row)
    assert isinstance(login, Login)
    plain = not set('"\\=|').intersection("".join(map(str, row.values())))
    complete = login.quality in {(), tuple(key for key in lacking if key == "ray_id")}

    simple = login.port is None and not login.query

    assert (_view(row).shape is not None) == (plain and complete and simple)


@given(logins)
def test_no_text_of_a_usual_row_needs_escaping_or_cutting(row: dict[str, Any]) -> None:
    view = _view(row)

    for text in view.arguments:
        assert orjson.dumps(text).decode() == f'"{text}"'
        assert not set(text) & set('|="\\\n\r\t\0\u2028\u202e')
        assert len(text.encode()) <= 1000


def test_one_odd_value_makes_a_row_unusual() -> None:
    odd: list[tuple[str, Any]] = [
        ("ip_address", "1.2.3.4\n1.2.3.4"),
        ("ip_address", "1.2.3.256"),
        ("ip_address", "1:2:3:4:5:6:7:8:9"),
        ("ip_address", ""),
        ("user_email", "a@example.com\nb@example.com"),
        ("user_email", "a" * 255),
        ("user_email", "\u00e4" * 130),
        ("country", "Germany"),
        ("app_domain", "https://wiki.example.com"),
        ("app_domain", "/admin"),
        ("app_domain", "wiki.example.com:8443"),
        ("app_domain", "wiki.example.com/?a"),
        ("app_name", 7),
        ("app_name", "\u00e4" * 501),
        ("app_name", "x" * 1000),
        ("app_name", "a=b"),
        ("allowed", None),
        ("allowed", 1),
        ("created_at", ""),
        ("created_at", "soon"),
        ("request_body", "{}"),
    ]

    assert [pair for pair in odd if _view({**LOGIN, pair[0]: pair[1]}).shape is not None] == []


def test_a_row_that_only_lacks_something_or_has_something_new_is_usual() -> None:
    usual = [
        ("user_email", None),
        ("country", "T1"),
        ("country", "de"),
        ("app_domain", "*.a.b"),
        ("ray_id", ""),
        ("new_key", {"a": [1]}),
    ]

    assert [pair for pair in usual if _view({**LOGIN, pair[0]: pair[1]}).shape is None] == []


def test_a_row_that_was_given_the_time_it_was_first_seen_is_not_usual() -> None:
    assert view_login(LOGIN, SEEN_US, SEEN_US, Bodies.WHOLE)[0] is None
    assert view_login(LOGIN, SEEN_US - 1, SEEN_US, Bodies.WHOLE)[0] is not None


@settings(max_examples=settings().max_examples // 2)
@given(given=pages_of_rows, redact=st.sampled_from([None, True, False]))
def test_a_page_is_rendered_as_each_of_its_events(
    given: tuple[str, list[dict[str, Any]]], *, redact: bool | None
) -> None:
    """Whatever way each row takes, and whatever was rendered before."""
    stream, rows = given
    shape = Shape(redact_request_body=redact)
    for style in STYLES.values():
        rendered = Pipeline(style, NORMALISERS, ACCOUNTS, shape)(page_of(stream, rows)).events

        bodies = shape.bodies(usual=style.request_bodies)
        events = [showing(event_of(stream, row), bodies) for row in rows]
        assert [event.body for event in rendered] == list(map(style.render, events))
        assert [event.user for event in rendered] == [event.user for event in events]
        assert [event.outcome for event in rendered] == [event.outcome for event in events]


def _alike() -> list[dict[str, Any]]:
    """Return changes that differ in few things, in every combination."""
    mail, other = "ann@example.com", "bob@example.com"
    named = [
        [{"value": "u-1", **more}]
        for more in ({}, {"display": "Ann"}, {"display": mail}, {"display": "Ann", "type": "group"})
    ]
    named += [
        [one, {"value": "u-2", "display": "x" * long}] for (one,) in named for long in (3, 60)
    ]
    named += [[{"value": f"{n}-{'x' * long}"} for n in range(25)] for long in (3, 60)]
    operations = [
        *(
            [{"op": op, "path": "members", "value": who}]
            for op in ("add", "remove")
            for who in named
        ),
        [{"op": "remove", "path": 'members[value eq "u-3"]'}, {"op": "add", "path": "members"}],
    ]
    bodies = [
        None,
        *(
            {"userName": name, "emails": emails}
            for name in (mail, other, "ann", "")
            for emails in (mail, other, "")
        ),
        *({"members": who, "displayName": "Team"} for who in named),
        *({"Operations": each} for each in operations),
    ]
    return [
        {
            **SCIM,
            "idp_resource_id": f"{resource}-{number}",
            "resource_type": resource,
            "resource_user_email": email,
            "http_method": method,
            "status": status,
            "request_body": body and orjson.dumps(body).decode(),
        }
        for resource in ("USER", "GROUP")
        for email in (None, mail, other, "ann")
        for method, status in (("PATCH", "SUCCESS"), ("PUT", "FAILURE"))
        for number, body in enumerate(bodies)
    ]


@pytest.mark.parametrize("bodies", Bodies)
@pytest.mark.parametrize("seed", range(2))
def test_changes_that_differ_in_little_are_told_apart(seed: int, bodies: Bodies) -> None:
    """Whichever of them is the one that the template of a shape is learned from."""
    rows = Random(seed).sample(found := _alike(), len(found))
    page = page_of(_CHANGES, rows)
    events = [showing(event_of(_CHANGES, row), bodies) for row in rows]
    for name, style in STYLES.items():
        lines = style.adding({"x": "y"}).render_rows(
            page.rows, page.hex_ids, page.times_us, events[0].origin, SCIM_UPDATES, bodies
        )

        assert lines == list(map(style.adding({"x": "y"}).render, events)), name


@given(
    st.lists(usual_logins, min_size=2, max_size=5), st.sampled_from(['a"c\\me', "250000000000123"])
)
def test_an_account_may_have_any_label(rows: list[dict[str, Any]], label: str) -> None:
    page = page_of(_LOGINS, [*rows, *rows])
    origin = event_of(_LOGINS, LOGIN).origin._replace(account=label)
    events = [event_of(_LOGINS, row, origin) for row in rows]

    for style in TEMPLATED.values():
        rendered = Pipeline(style, NORMALISERS, {page.account_id: label})(page)

        assert [event.body for event in rendered.events] == list(map(style.render, events)) * 2


_DISABLED = {**ROWS[_CHANGES]["scim_user_disable"], "error_description": "no such user"}


@pytest.mark.parametrize(
    ("stream", "row", "key"),
    [(_LOGINS, LOGIN, "user_email"), (_CHANGES, _DISABLED, "resource_user_email")],
)
def test_the_second_row_of_a_shape_is_written_by_the_template(
    stream: str, row: Mapping[str, Any], key: str
) -> None:
    normalised = []

    def normalise(*arguments: Any) -> Any:
        normalised.append(arguments)
        return NORMALISERS[stream].normalise(*arguments)

    counting = {stream: NORMALISERS[stream]._replace(normalise=normalise)}
    rows = [{**row, key: f"user{n}@example.com"} for n in range(50)]
    stored = page_of(stream, rows)
    # A page that was read just now comes with its rows parsed, and its parts have no body.
    for page in (stored, stored.part(0, len(rows), rows)):
        for name in ("ocsf", "ecs", "cim", "cef", "leef"):
            normalised.clear()

            Pipeline(_fresh(name), counting, ACCOUNTS)(page)

            assert len(normalised) == 1, name


def _fresh(name: str) -> Any:
    return STYLES[name].adding({})


def test_a_template_that_would_lie_is_not_used() -> None:
    """A view that forgets to tell two kinds of row apart costs speed, never a wrong event."""

    def forgetful(*given: Any) -> Any:
        shape, arguments, extra = view_login(*given)
        return None if shape is None else "all alike", arguments, extra

    usual = LOGINS.usual._replace(view=forgetful)  # type: ignore[union-attr]
    normalisers = {_LOGINS: Normaliser(LOGINS.normalise, LOGINS.keys, usual)}
    page = page_of(_LOGINS, [{**LOGIN, "new_key": 1}, LOGIN])

    (first, _) = Pipeline(_fresh("ecs"), normalisers, ACCOUNTS)(page).events

    assert orjson.loads(first.body)["cloudflare"]["unmapped"] == {"new_key": 1}


@given(streams_and_rows)
def test_the_sink_is_told_what_the_event_says(given: tuple[str, dict[str, Any]]) -> None:
    stream, row = given
    event = event_of(stream, row)

    (sent,) = Pipeline(STYLES["cim"], NORMALISERS, ACCOUNTS)(page_of(stream, [row])).events

    assert (sent.id, sent.stream, sent.time_us) == (event.id, stream, event.time_us)
    assert (sent.outcome, sent.user) == (event.outcome, event.user)
    assert sent.account == event.origin.account


@settings(max_examples=settings().max_examples // 2)
@given(row=st.dictionaries(st.sampled_from(list(LOGIN)), any_texts), text=any_texts)
def test_texts_that_no_json_holds_are_rendered_too(row: dict[str, Any], text: str) -> None:
    for stream in NORMALISERS:
        event = event_of(stream, {**row, "request_body": text, text: 2**70})
        assert all(style.render(event) for style in STYLES.values())


_constants = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["{0}", "{texts}", "}}", "'", '"""', "\\", "\n", "%s", "__import__('os')", "\0"]
)


@given(
    st.data(),
    st.tuples(*[_constants] * 3),
    st.lists(st.sampled_from([0, 1, 2, ID, TIME, SEEN, EXTRA]), max_size=6),
)
def test_constants_and_arguments_alternate_and_stay_what_they_are(
    data: st.DataObject, arguments: tuple[str, ...], between: list[int | str]
) -> None:
    count = len(between) + 1
    constants = data.draw(st.lists(_constants, min_size=count, max_size=count))
    named = dict(enumerate(arguments)) | {ID: "i{d}", TIME: "17", SEEN: "18", EXTRA: '"a":1'}
    told = [named[what] for what in between]
    expected = constants[0] + "".join(map(str.__add__, told, constants[1:]))

    write = line_writer(constants, between)

    assert write(arguments, "i{d}", "17", "18", '"a":1') == expected


@given(st.lists(st.dictionaries(texts, texts, max_size=3), max_size=4))
def test_flat_rows_pass_through_raw_as_they_are(rows: list[dict[str, str]]) -> None:
    page = page_of(_LOGINS, rows)

    rendered = Pipeline(STYLES["raw_without_envelope"], NORMALISERS, ACCOUNTS)(page).events

    assert [orjson.loads(event.body) for event in rendered] == rows
