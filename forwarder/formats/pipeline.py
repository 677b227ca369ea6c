"""From a stored page to what a sink sends: normalise, filter, hide, render."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, repeat
from typing import Any, NamedTuple

from forwarder.core.contracts import BatchEvent, Format, Rejection, Rendered, StoredPage
from forwarder.core.errors import unforeseen
from forwarder.core.login import Origin, origin_of
from forwarder.core.own_events import OWN_EVENTS
from forwarder.core.schema import Normaliser
from forwarder.formats.filters import EventFilter, wanted
from forwarder.formats.privacy import Hider, without_body


@dataclass(frozen=True, slots=True)
class Shape:
    """What one sink wants to get, of all that its format could say.

    ``drop_fields`` and ``hash_fields`` are keys of the row (dotted paths), ``hash_key`` is the
    hashes' key, ``add_fields`` pairs of a dotted path or key and a text.
    ``redact_request_body`` None leaves SCIM bodies out where the format does so by itself.
    """

    only: EventFilter | None = None
    unless: EventFilter | None = None
    drop_fields: tuple[str, ...] = ()
    hash_fields: tuple[str, ...] = ()
    hash_key: bytes = field(default=b"", repr=False)
    add_fields: tuple[tuple[str, str], ...] = ()
    redact_request_body: bool | None = None

    @property
    def changes_rows(self) -> bool:
        """Say whether rows do not reach the format as they are."""
        return bool(self.drop_fields or self.hash_fields or self.redact_request_body)


class NoLineError(TypeError):
    """A format gave something else than one line of bytes for each event."""


class Pipeline:
    """Renders pages for all sinks with one format and one shape; a ``core.contracts.Render``.

    ``normalisers`` has one for each stream; a page of any other stream is passed on as an event
    that nobody understands. ``accounts`` has the label of each account id.
    """

    def __init__(
        self,
        format: Format,  # noqa: A002
        normalisers: Mapping[str, Normaliser],
        accounts: Mapping[str, str],
        shape: Shape = Shape(),
    ) -> None:
        """Take what all pages are rendered with; does no I/O."""
        self._format = format.adding(dict(shape.add_fields)) if shape.add_fields else format
        self._render_cut = getattr(self._format, "render_cut", None)
        self._render_rows = getattr(self._format, "render_rows", None)
        self._normalisers = normalisers
        self._accounts = accounts
        self._shape = shape
        self._filters = shape.only is not None or shape.unless is not None
        hides = shape.drop_fields or shape.hash_fields
        self._hider = Hider(shape.drop_fields, shape.hash_fields, shape.hash_key) if hides else None
        redact = shape.redact_request_body
        self._redacts = redact if redact is not None else not format.request_bodies

    def __call__(self, page: StoredPage) -> Rendered:
        """Return the page's events as this sink gets them; never raises for a row.

        A page that cannot be rendered whole is rendered row by row, and names those at fault.
        """
        origin = origin_of(page, self._accounts.get(page.account_id, page.account_id))
        normaliser = self._normalisers.get(page.stream, OWN_EVENTS)
        failed: list[Rejection] = []
        try:
            events = self._cut(page, origin, normaliser)
            if events is None:
                events = self._all(_Columns.of(page), page.rows, origin, normaliser)
        except Exception:  # noqa: BLE001 - each row tells its own fault below
            events, failed = self._one_by_one(page, origin, normaliser)
        filtered = page.count - len(events) - len(failed)
        return Rendered(events, page.end_offset, filtered, tuple(failed))

    def _one_by_one(
        self, page: StoredPage, origin: Origin, normaliser: Normaliser
    ) -> tuple[list[BatchEvent], list[Rejection]]:
        """Render each row alone, so that one that cannot be rendered stops no other."""
        events: list[BatchEvent] = []
        failed: list[Rejection] = []
        columns = _Columns.of(page)
        for at, row in enumerate(page.rows):
            try:
                events += self._all(columns.only(at), [row], origin, normaliser)
            except MemoryError:  # no row's fault
                raise
            except Exception as error:  # noqa: BLE001 - a format's fault must not stop a sink
                reason = f"cannot be rendered: {unforeseen(error)}"
                failed.append(Rejection(columns.offsets[at], reason))
        return events, failed

    def _cut(
        self, page: StoredPage, origin: Origin, normaliser: Normaliser
    ) -> list[BatchEvent] | None:
        """Render by cutting the page into its rows, where the format takes them as they are."""
        if self._render_cut is None or self._filters or self._shape.changes_rows:
            return None
        bodies = self._render_cut(page, origin)
        if bodies is None:
            return None
        return _assemble(_Columns.of(page), page.rows, origin, normaliser, bodies)

    def _all(
        self,
        columns: _Columns,
        rows: Sequence[Mapping[str, Any]],
        origin: Origin,
        normaliser: Normaliser,
    ) -> list[BatchEvent]:
        normalise, render = normaliser.normalise, self._format.render
        if self._filters:
            only, unless = self._shape.only, self._shape.unless
            events = map(normalise, rows, repeat(origin), columns.ids, columns.times_us)
            keep = [wanted(event, only, unless) for event in events]
            columns, rows = columns.keep(keep), list(compress(rows, keep))
        if self._hider:
            rows = [self._hider.hide(row) for row in rows]
        if self._render_rows is not None:
            bodies = self._render_rows(
                rows, columns.ids, columns.times_us, origin, normaliser, bodies=not self._redacts
            )
        else:
            events = map(normalise, rows, repeat(origin), columns.ids, columns.times_us)
            if self._redacts:
                events = map(without_body, events)
            bodies = list(map(render, events))
            if {*map(type, bodies)} - {bytes}:
                raise NoLineError
        return _assemble(columns, rows, origin, normaliser, bodies)


class _Columns(NamedTuple):
    """What a page knows of its rows beside the rows."""

    offsets: Sequence[int]
    ids: Sequence[str]
    times_us: Sequence[int]

    @classmethod
    def of(cls, page: StoredPage) -> _Columns:
        return cls(range(page.first_offset, page.end_offset), page.hex_ids, page.times_us)

    def only(self, at: int) -> _Columns:
        """Return the columns of one row."""
        return _Columns([self.offsets[at]], [self.ids[at]], [self.times_us[at]])

    def keep(self, keep: Sequence[bool]) -> _Columns:
        offsets, ids, times_us = self
        return _Columns(
            list(compress(offsets, keep)), list(compress(ids, keep)), list(compress(times_us, keep))
        )


def _assemble(
    columns: _Columns,
    rows: Sequence[Mapping[str, Any]],
    origin: Origin,
    normaliser: Normaliser,
    bodies: Sequence[bytes],
) -> list[BatchEvent]:
    """Make the events out of their columns, without a call a row."""
    if len(bodies) != len(rows):
        raise NoLineError
    seen = normaliser.glance(rows, origin)
    values = zip(
        columns.offsets,
        columns.ids,
        repeat(origin.stream),
        seen.accounts,
        columns.times_us,
        repeat(origin.seen_us),
        seen.outcomes,
        seen.users,
        bodies,
        strict=False,
    )
    return list(map(_NEW_EVENT, repeat(BatchEvent), values))


_NEW_EVENT = tuple.__new__
