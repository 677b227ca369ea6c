"""Templates and cut pages give the very bytes that the mappings give."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.core.identity import members
from forwarder.core.login import Login, Origin, is_plain
from forwarder.core.schema import Provisioning
from forwarder.core.timing import parse_us
from forwarder.formats.pipeline import Pipeline, Shape
from forwarder.formats.privacy import without_body
from forwarder.formats.raw import RawConfig, RawFormat
from forwarder.testing.sample_events import (
    ACCOUNTS,
    NORMALISERS,
    SEEN_US,
    event_of,
    page_of,
)
from forwarder.testing.sample_rows import ACCOUNT_ID, LOGIN
from tests.formats.strategies import (
    any_texts,
    pages_of_rows,
    read_rows,
    streams_and_rows,
    texts,
    usual_changes,
    usual_logins,
)
from tests.formats.styles import STYLES, TEMPLATED

LACKING = (
    ("user_id", "country", "app_name", "app_type"),
    ("user_id", "country"),
    ("ray_id",),
    ("allowed", "app_uid"),
)
"""Keys that rows lack: all that are not documented, and others."""
_LOGINS, _CHANGES = "access_requests", "scim_updates"


def _origin(stream: str, account: str, row: dict[str, Any], *, plain: bool) -> Origin:
    """Return an origin that says of a row what a page of that row alone would say, or nothing."""
    timed = any(parse_us(row.get(key)) is not None for key in ("created_at", "logged_at"))
    plain = plain and timed and all(is_plain(text) for text in _texts(row))
    return Origin(ACCOUNT_ID, account, stream, SEEN_US, plain)


@given(given=read_rows, account=st.sampled_from(["acme", 'a"c\\me']), plain=st.booleans())
def test_a_template_gives_what_the_mapping_gives(
    given: tuple[str, dict[str, Any]], account: str, *, plain: bool
) -> None:
    stream, row = given
    event = event_of(stream, row, _origin(stream, account, row, plain=plain))

    for style in TEMPLATED.values():
        for one in (event, without_body(event)):
            written = style.write(one)
            assert style.render(one) == written
            assert style.render(one) == written


@given(given=read_rows, plain=st.booleans(), bodies=st.booleans())
def test_a_row_is_read_as_its_event_is_made(
    given: tuple[str, dict[str, Any]], *, plain: bool, bodies: bool
) -> None:
    """What is read out of a row without making the event is what the event has."""
    stream, row = given
    origin = _origin(stream, "acme", row, plain=plain)
    event = event_of(stream, row, origin)
    event = event if bodies else without_body(event)

    (reading,) = NORMALISERS[stream].read_rows([row], origin, [event.time_us], bodies=bodies)

    if reading[0] is not None:
        assert isinstance(event, Login | Provisioning)
        assert reading == (event.shape, event.fillings, members(event.extra))


@settings(max_examples=settings().max_examples // 4)
@given(given=pages_of_rows, bodies=st.booleans())
def test_a_page_is_rendered_as_its_rows_are(
    given: tuple[str, list[dict[str, Any]]], *, bodies: bool
) -> None:
    """Whatever way each row takes: in templated formats what comes is what the mapping gives."""
    stream, rows = given
    events = [event_of(stream, row) for row in rows]
    shape = Shape(redact_request_body=not bodies)
    for style in STYLES.values():
        rendered = Pipeline(style, NORMALISERS, ACCOUNTS, shape)(page_of(stream, rows))
        bare = events if bodies else list(map(without_body, events))
        write = getattr(style, "write", style.render)
        sent = [event.body for event in rendered.events]

        if hasattr(style, "write") or not bodies:
            assert sent == list(map(write, bare))
        else:
            assert list(map(orjson.loads, sent)) == list(map(orjson.loads, map(write, bare)))


@given(usual_changes)
def test_nearly_all_usual_changes_are_served_by_a_template(row: dict[str, Any]) -> None:
    style = TEMPLATED["ocsf"]
    event = event_of(_CHANGES, row)
    style.render(event)

    templates = style._templates_of(event.origin)  # noqa: SLF001 - its speed is the point
    assert isinstance(event, Provisioning)
    served = templates.get(event.shape) is not None

    (reading,) = NORMALISERS[_CHANGES].read_rows([row], event.origin, [event.time_us], bodies=True)
    assert served
    assert reading[0] is not None


@given(usual_logins)
def test_nearly_all_usual_logins_are_served_by_a_template(row: dict[str, Any]) -> None:
    style = TEMPLATED["ecs"]
    event = event_of(_LOGINS, row)
    style.render(event)

    templates = style._templates_of(event.origin)  # noqa: SLF001 - its speed is the point
    served = templates.get(event.shape) is not None

    assert isinstance(event, Login)
    assert served == (event.facts.odd is None or event.facts.odd.plain)


@given(usual_logins, st.sampled_from([(), *LACKING]))
def test_both_ways_to_read_a_row_agree(row: dict[str, Any], lacking: tuple[str, ...]) -> None:
    """A row whose time is the one it was first seen at is always read with care."""
    row = {key: value for key, value in row.items() if key not in lacking}
    with_care = event_of(_LOGINS, row)
    at_once = event_of(_LOGINS, row, with_care.origin._replace(seen_us=with_care.time_us))

    assert isinstance(with_care, Login)
    assert isinstance(at_once, Login)
    assert with_care.shape == at_once.shape
    assert with_care.texts == at_once.texts


@given(streams_and_rows)
def test_a_glance_sees_what_the_events_say(given: tuple[str, dict[str, Any]]) -> None:
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


@given(st.lists(st.dictionaries(texts, texts, max_size=3), max_size=4))
def test_a_page_of_any_flat_rows_is_cut_right(rows: list[dict[str, str]]) -> None:
    style = RawFormat(RawConfig(envelope=False))
    page = page_of(_LOGINS, rows)

    bodies = [event.body for event in Pipeline(style, NORMALISERS, ACCOUNTS)(page).events]

    assert [orjson.loads(body) for body in bodies] == rows


def test_white_space_between_rows_is_no_obstacle() -> None:
    page = page_of(_LOGINS, [LOGIN, LOGIN])
    for separator in (b", ", b" ,\n", b"\t,"):
        body = b"[ %b ]" % separator.join([orjson.dumps(dict(LOGIN))] * 2)
        spaced = type(page)(**{**_fields(page), "body": body})

        bodies = [
            event.body for event in Pipeline(STYLES["raw"], NORMALISERS, ACCOUNTS)(spaced).events
        ]

        assert [orjson.loads(body)["ray_id"] for body in bodies] == [LOGIN["ray_id"]] * 2
        assert not [body for body in bodies if b"\n" in body]


def _fields(page: Any) -> dict[str, Any]:
    return {name: getattr(page, name) for name in page.__dataclass_fields__}


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []
