"""What every format must do, as tests. Subclass, name the plugin's class, and nothing else.

class TestMyFormat(FormatContract):
    plugin = MyFormat
"""

from __future__ import annotations

from typing import Any, ClassVar

import orjson

from forwarder.core.contracts import Format, StoredPage
from forwarder.core.schema import Origin
from forwarder.formats.pipeline import Pipeline
from forwarder.formats.shape import Shape
from forwarder.testing.samples import (
    ACCOUNTS,
    LOGIN,
    LOGINS,
    NORMALISERS,
    ROWS,
    SCIM_UPDATES,
    SEEN_US,
    event_of,
    page_of,
    sample_events,
)

# Some syslog receivers end a message at a NUL (RFC 6587, 3.4.2).
_LINE_ENDS = (b"\n", b"\r", b"\0")


class FormatContract:
    """True for every format."""

    plugin: ClassVar[Any]
    settings: ClassVar[dict[str, Any]] = {}

    def format(self) -> Format:
        """Return a new instance of the format."""
        made: Format = self.plugin(self.plugin.Config(**self.settings))
        return made

    def test_it_says_what_it_is(self) -> None:
        assert self.plugin.summary
        assert self.format().media_type in {"application/json", "text/plain"}
        assert isinstance(self.format().request_bodies, bool)

    def test_any_event_is_one_line_of_utf_8(self) -> None:
        style = self.format()

        for event in sample_events():
            line = style.render(event)
            assert line.decode("utf-8"), event.row
            assert not [end for end in _LINE_ENDS if end in line], event.row

    def test_json_is_an_object(self) -> None:
        style = self.format()

        if style.media_type == "application/json":
            assert all(isinstance(orjson.loads(style.render(e)), dict) for e in sample_events())

    def test_what_was_rendered_before_changes_nothing(self) -> None:
        style, events = self.format(), sample_events()

        forwards = [style.render(event) for event in events]
        # Formats keep templates of what they rendered: their order must not matter.
        backwards = [style.render(event) for event in reversed(events)][::-1]
        alone = [self.format().render(event) for event in events]

        assert forwards == alone
        assert backwards == alone

    def test_a_page_is_its_rows_one_by_one(self) -> None:
        for stream, rows in ROWS.items():
            # Twice: the second half meets every template that the first has made.
            page = page_of(stream, [*rows.values(), *rows.values()])
            alone = [_only(self.format(), page_of(stream, [row])) for row in rows.values()]

            assert [event.body for event in _pipeline(self.format())(page).events] == alone * 2

    def test_one_account_never_shows_in_an_event_of_another(self) -> None:
        style = self.format()
        origins = [
            Origin("1" * 32, "first", "access_requests", SEEN_US),
            Origin("2" * 32, "second", "access_requests", SEEN_US),
            # A reload may change a label, so a template must not keep the one it was made with.
            Origin("1" * 32, "renamed", "access_requests", SEEN_US),
        ]
        events = [event_of("access_requests", LOGIN, origin) for origin in origins]

        together = [style.render(event) for event in (*events, *events)]

        assert together == [self.format().render(event) for event in events] * 2

    def test_added_fields_are_in_every_event_and_only_where_asked_for(self) -> None:
        plain = self.format()
        adding = plain.adding({"environment": "produktion"})

        for event in sample_events():
            assert b"produktion" in adding.render(event)
            assert b"produktion" not in plain.render(event)

    def test_no_password_of_a_request_body_gets_through(self) -> None:
        page = page_of("scim_updates", list(SCIM_UPDATES.values()))

        # Also where request bodies are wanted: a password never is.
        for redact in (None, False, True):
            shape = Shape(redact_request_body=redact)
            bodies = [event.body for event in _pipeline(self.format(), shape)(page).events]
            assert not [body for body in bodies if b"Tr0ub4dor" in body]

    def test_no_secret_of_a_changed_setting_gets_through(self) -> None:
        page = page_of("account_audit", list(ROWS["account_audit"].values()))

        for redact in (None, False, True):
            shape = Shape(redact_request_body=redact)
            bodies = [event.body for event in _pipeline(self.format(), shape)(page).events]
            assert not [body for body in bodies if b"Tr0ub4dor" in body]

    def test_request_bodies_can_be_left_out(self) -> None:
        page = page_of("scim_updates", [SCIM_UPDATES["scim_user_create"]])

        body = _only(self.format(), page, Shape(redact_request_body=True))

        # It stands in the request body and nowhere else in the row.
        assert b"familyName" not in body

    def test_hidden_values_do_not_get_through(self) -> None:
        page = page_of("access_requests", list(LOGINS.values()))
        shape = Shape(drop_fields=("ray_id",), hash_fields=("user_email",), hash_key=b"k")

        for event in _pipeline(self.format(), shape)(page).events:
            assert b"ann@example.com" not in event.body
            assert b"a1cbcd95da9aa9e9" not in event.body


def _pipeline(style: Format, shape: Shape | None = None) -> Pipeline:
    return Pipeline(style, NORMALISERS, ACCOUNTS, shape or Shape())


def _only(style: Format, page: StoredPage, shape: Shape | None = None) -> bytes:
    (event,) = _pipeline(style, shape)(page).events
    return event.body
