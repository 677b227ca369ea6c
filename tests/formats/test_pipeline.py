"""A row that a format cannot render is named, and the page's other rows are rendered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import StoredPage
from forwarder.core.own_events import OWN_EVENTS
from forwarder.core.schema import Bodies, Event, Normaliser, Origin
from forwarder.formats.pipeline import Pipeline, Pipelines
from forwarder.formats.shape import EventFilter, Shape
from forwarder.testing.samples import ACCOUNTS, LOGIN, LOGINS, NORMALISERS, page_of

_STREAM = "access_requests"
_DENIED = LOGINS["login_denied"]


class Choosy:
    """A format that does ``deed`` with the rows whose ``ray_id`` is in ``bad``."""

    media_type = "application/json"
    request_bodies = True

    def __init__(self, bad: frozenset[int], deed: Callable[[], Any]) -> None:
        self.bad, self.deed, self.calls = bad, deed, 0

    def render(self, event: Event) -> bytes:
        return self._line(event.row)

    def adding(self, fields: Mapping[str, str]) -> Choosy:  # noqa: ARG002 - as the contract has it
        return self

    def _line(self, row: Mapping[str, Any]) -> bytes:
        self.calls += 1
        if row["ray_id"] in self.bad:
            made: bytes = self.deed()
            return made
        return orjson.dumps(row["ray_id"])


class ByPages(Choosy):
    """The same, a page of logins at a time."""

    def render_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        ids: Sequence[str],  # noqa: ARG002 - as the contract has it
        times_us: Sequence[int],  # noqa: ARG002
        origin: Origin,  # noqa: ARG002
        normaliser: Normaliser,  # noqa: ARG002
        bodies: Bodies,  # noqa: ARG002
    ) -> list[bytes]:
        return list(map(self._line, rows))


def fail() -> bytes:
    raise LookupError("s3cret")


def page(count: int, *, denied: frozenset[int] = frozenset()) -> StoredPage:
    """Return logins whose ``ray_id`` is their number; the first has offset 100."""
    rows = [{**(_DENIED if n in denied else LOGIN), "ray_id": n} for n in range(count)]
    return page_of(_STREAM, rows, first_offset=100)


@pytest.mark.parametrize("kind", [Choosy, ByPages])
def test_the_other_rows_are_rendered_in_order(kind: type[Choosy]) -> None:
    style = kind(frozenset({0, 617, 999}), fail)

    rendered = Pipeline(style, NORMALISERS, ACCOUNTS)(page(1000))

    good = [n for n in range(1000) if n not in style.bad]
    assert [int(event.body) for event in rendered.events] == good
    assert [event.offset for event in rendered.events] == [100 + n for n in good]
    assert [one.offset for one in rendered.failed] == [100, 717, 1099]
    assert (rendered.end_offset, rendered.filtered) == (1100, 0)


def test_the_reason_names_the_type_and_the_place_and_not_the_text() -> None:
    rendered = Pipeline(Choosy(frozenset({1}), fail), NORMALISERS, ACCOUNTS)(page(3))

    (failed,) = rendered.failed
    assert failed.reason.startswith("cannot be rendered: LookupError at formats/test_pipeline.py:")
    assert "s3cret" not in failed.reason


@pytest.mark.parametrize("kind", [Choosy, ByPages])
def test_a_page_without_such_a_row_is_rendered_once(kind: type[Choosy]) -> None:
    style = kind(frozenset(), fail)

    rendered = Pipeline(style, NORMALISERS, ACCOUNTS)(page(100))

    assert style.calls == 100
    assert rendered.failed == ()


@pytest.mark.parametrize("given", [None, "text", 7])
def test_what_is_not_bytes_is_no_line(given: object) -> None:
    style = Choosy(frozenset({1}), lambda: given)

    rendered = Pipeline(style, NORMALISERS, ACCOUNTS)(page(3))

    assert [event.offset for event in rendered.events] == [100, 102]
    assert "NoLineError" in rendered.failed[0].reason


def test_a_page_with_lines_missing_is_rendered_row_by_row() -> None:
    class Forgetful(Choosy):
        def render_rows(self, rows: Sequence[Mapping[str, Any]], *_: Any) -> list[bytes]:
            return [self._line(row) for row in rows if row["ray_id"] not in self.bad]

    style = Forgetful(frozenset({1}), fail)

    rendered = Pipeline(style, NORMALISERS, ACCOUNTS)(page(3))

    assert [event.offset for event in rendered.events] == [100, 102]
    assert [one.offset for one in rendered.failed] == [101]


def test_a_row_that_cannot_be_normalised_is_named_too() -> None:
    def normalise(row: Mapping[str, Any], *rest: Any) -> Event:
        return fail() if row["ray_id"] == 1 else OWN_EVENTS.normalise(row, *rest)  # type: ignore[return-value]

    normalisers = {_STREAM: Normaliser(normalise)}

    rendered = Pipeline(Choosy(frozenset(), fail), normalisers, ACCOUNTS)(page(3))

    assert [event.offset for event in rendered.events] == [100, 102]
    assert [one.offset for one in rendered.failed] == [101]


def test_want_of_memory_is_no_rows_fault() -> None:
    def starve() -> bytes:
        raise MemoryError

    with pytest.raises(MemoryError):
        Pipeline(Choosy(frozenset({1}), starve), NORMALISERS, ACCOUNTS)(page(3))


def test_sinks_that_share_a_page_share_what_failed() -> None:
    style = Choosy(frozenset({1}), fail)
    pipelines = Pipelines(NORMALISERS, ACCOUNTS)

    def plugin(_: None) -> Choosy:
        return style

    one, two = (pipelines.render_for(plugin, None, Shape()) for _ in range(2))

    first = one(page(3))
    calls = style.calls

    assert two(page(3)) is first
    assert style.calls == calls
    assert [failed.offset for failed in first.failed] == [101]


@given(
    bad=st.frozensets(st.integers(0, 39)),
    denied=st.frozensets(st.integers(0, 39)),
    kind=st.sampled_from([Choosy, ByPages]),
    filters=st.booleans(),
)
def test_every_row_is_rendered_filtered_or_named(
    bad: frozenset[int], denied: frozenset[int], kind: type[Choosy], *, filters: bool
) -> None:
    shape = Shape(unless=EventFilter(outcome=("failure",))) if filters else Shape()

    rendered = Pipeline(kind(bad, fail), NORMALISERS, ACCOUNTS, shape)(page(40, denied=denied))

    left_out = denied if filters else frozenset()
    offsets = [event.offset - 100 for event in rendered.events]
    assert offsets == sorted(set(range(40)) - bad - left_out)
    assert [one.offset - 100 for one in rendered.failed] == sorted(bad - left_out)
    assert rendered.filtered == len(left_out)
