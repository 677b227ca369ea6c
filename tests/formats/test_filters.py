"""``only`` and ``except`` choose events by what they are, and count what they leave out."""

from __future__ import annotations

import pytest

from forwarder.formats.pipeline import Pipeline
from forwarder.formats.shape import EventFilter, Shape
from forwarder.testing.samples import (
    ACCOUNTS,
    LOGIN,
    LOGINS,
    NORMALISERS,
    OWN_EVENTS,
    SCIM_UPDATES,
    event_of,
    page_of,
)
from tests.formats.styles import STYLES

_LOGIN = event_of("access_requests", LOGIN)
_CHANGE = event_of("scim_updates", SCIM_UPDATES["scim_user_disable"])
_OWN = event_of("forwarder", OWN_EVENTS["own_gap_opened"])


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        (EventFilter(), [True, True, True]),
        (EventFilter(stream=("access_requests",)), [True, False, False]),
        (EventFilter(stream=("forwarder", "scim_updates")), [False, True, True]),
        (EventFilter(outcome=("success",)), [True, True, False]),
        (EventFilter(action=("login", "disable")), [True, True, False]),
        (EventFilter(action=("gap_*",)), [False, False, True]),
        (EventFilter(app=("kibana",)), [True, False, False]),
        (EventFilter(app=("*.example.com",)), [True, False, False]),
        (EventFilter(app=(LOGIN["app_uid"],)), [True, False, False]),
        (EventFilter(connection=("AZUREad",)), [True, False, False]),
        (EventFilter(outcome=("success",), connection=("okta",)), [False, False, False]),
    ],
)
def test_a_filter_fits_what_all_its_keys_fit(given: EventFilter, fits: list[bool]) -> None:
    assert [given.fits(event) for event in (_LOGIN, _CHANGE, _OWN)] == fits


_SUCCESS = EventFilter(outcome=("success",))


def test_except_wins_over_only() -> None:
    assert not Shape(only=EventFilter(action=("login",)), unless=_SUCCESS).wants(_LOGIN)
    assert Shape(unless=EventFilter(outcome=("failure",))).wants(_LOGIN)


def test_what_a_filter_leaves_out_is_counted_and_offsets_stay() -> None:
    rows = [LOGIN, LOGINS["login_denied"], LOGIN, LOGINS["login_denied"]]
    shape = Shape(only=EventFilter(outcome=("failure",)))
    page = page_of("access_requests", rows, first_offset=100)

    for style in STYLES.values():
        rendered = Pipeline(style, NORMALISERS, ACCOUNTS, shape)(page)
        assert [event.offset for event in rendered.events] == [101, 103]
        assert [event.outcome for event in rendered.events] == ["failure", "failure"]
        assert (rendered.end_offset, rendered.filtered) == (104, 2)


def test_a_stream_that_nobody_knows_is_passed_on() -> None:
    rendered = Pipeline(STYLES["ecs"], NORMALISERS, {})(page_of("new_stream", [{"a": 1}]))

    (event,) = rendered.events
    assert (event.stream, event.outcome) == ("new_stream", "unknown")
    assert b'"a":1' in event.body
