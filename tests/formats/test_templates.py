"""Templates and the fast way to read a row give the very bytes that the mappings give."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.core.identity import members
from forwarder.core.schema import ARGUMENTS, Login, Normaliser, RowView, UsualLogins
from forwarder.formats.pipeline import Pipeline
from forwarder.formats.shape import Shape, without_body
from forwarder.formats.templates import EXTRA, ID, SEEN, TIME, line_writer
from forwarder.sources.cloudflare_access.login_mapping import LOGINS, view_login
from forwarder.testing.samples import ACCOUNTS, LOGIN, NORMALISERS, SEEN_US, event_of, page_of
from tests.formats.strategies import (
    any_texts,
    logins,
    pages_of_rows,
    streams_and_rows,
    texts,
    usual_logins,
)
from tests.formats.styles import STYLES, TEMPLATED

_LOGINS = "access_requests"
_LACKING = (
    ("user_id", "country", "app_name", "app_type"),
    ("user_id", "country"),
    ("ray_id",),
    ("allowed", "app_uid"),
)
"""Keys that rows lack: all that are not documented, and others."""


def _view(row: dict[str, Any]) -> RowView:
    return RowView(*view_login(row, event_of(_LOGINS, row).time_us, SEEN_US))


@given(logins, st.sampled_from([(), *_LACKING]))
def test_the_fast_way_reads_what_the_event_has(row: dict[str, Any], lacking: Any) -> None:
    row = {key: value for key, value in row.items() if key not in lacking}
    login, view = event_of(_LOGINS, row), _view(row)

    if view.shape is not None:
        assert isinstance(login, Login)
        assert view.arguments == tuple(getattr(login, name) for name in ARGUMENTS)
        assert view.extra == members(login.extra)


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
    assert view_login(LOGIN, SEEN_US, SEEN_US)[0] is None
    assert view_login(LOGIN, SEEN_US - 1, SEEN_US)[0] is not None


@settings(max_examples=settings().max_examples // 2)
@given(given=pages_of_rows, bodies=st.booleans())
def test_a_page_is_rendered_as_each_of_its_events(
    given: tuple[str, list[dict[str, Any]]], *, bodies: bool
) -> None:
    """Whatever way each row takes, and whatever was rendered before."""
    stream, rows = given
    events = [event_of(stream, row) for row in rows]
    bare = [without_body(event, names=False) for event in events]
    shape = Shape(redact_request_body=not bodies)
    for style in STYLES.values():
        rendered = Pipeline(style, NORMALISERS, ACCOUNTS, shape)(page_of(stream, rows))

        expected = list(map(style.render, events if bodies else bare))
        assert [event.body for event in rendered.events] == expected


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


def test_the_second_row_of_a_shape_is_written_by_the_template() -> None:
    normalised = []

    def normalise(*arguments: Any) -> Any:
        normalised.append(arguments)
        return LOGINS.normalise(*arguments)

    counting = {_LOGINS: Normaliser(normalise, LOGINS.keys, LOGINS.usual)}
    rows = [{**LOGIN, "user_email": f"user{n}@example.com"} for n in range(50)]
    for name in ("ocsf", "ecs", "cim", "cef", "leef"):
        normalised.clear()

        Pipeline(_fresh(name), counting, ACCOUNTS)(page_of(_LOGINS, rows))

        assert len(normalised) == 1, name


def _fresh(name: str) -> Any:
    return STYLES[name].adding({})


def test_a_template_that_would_lie_is_not_used() -> None:
    """A view that forgets to tell two kinds of row apart costs speed, never a wrong event."""

    def forgetful(row: Any, time_us: int, seen_us: int) -> Any:
        shape, arguments, extra = view_login(row, time_us, seen_us)
        return None if shape is None else "all alike", arguments, extra

    usual = UsualLogins(forgetful, LOGINS.usual.summarise)  # type: ignore[union-attr]
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
