"""From a stored page to what a sink sends: normalise, filter, hide, render.

Sinks with the same format and the same shape share one pipeline, which renders each page once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import compress, repeat
from typing import Any, NamedTuple, Protocol, runtime_checkable

from forwarder.core.contracts import (
    BatchEvent,
    Format,
    Rejection,
    Render,
    Rendered,
    StoredPage,
    StreamKey,
)
from forwarder.core.errors import unforeseen
from forwarder.core.own_events import OWN_EVENTS
from forwarder.core.schema import Bodies, Event, Normaliser, Origin
from forwarder.formats.shape import Shape, showing

_EVERYTHING = Shape()
_OWN_NAMES: Mapping[StreamKey, str] = {}


@runtime_checkable
class RendersRows(Protocol):
    """What a format may offer beside its contract: a fast way for pages of usual rows."""

    def render_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        ids: Sequence[str],
        times_us: Sequence[int],
        origin: Origin,
        normaliser: Normaliser,
        bodies: Bodies,
    ) -> list[bytes]:
        """Return what ``render`` gives for each row; ``normaliser`` has ``usual``."""
        ...


class NoLineError(TypeError):
    """A format gave something else than one line of bytes for each event."""


class Pipeline:
    """Renders pages for all sinks with one format and one shape; a ``core.contracts.Render``.

    ``normalisers`` has one for each stream; a page of any other stream is passed on as an event
    that nobody understands. ``accounts`` has the label of each account id, ``names`` what sinks are
    to call a stream, where it is not its own name; a stream with an empty name gives no events.
    """

    def __init__(
        self,
        format: Format,  # noqa: A002
        normalisers: Mapping[str, Normaliser],
        accounts: Mapping[str, str],
        shape: Shape = _EVERYTHING,
        names: Mapping[StreamKey, str] = _OWN_NAMES,
    ) -> None:
        """Take what all pages are rendered with; does no I/O."""
        self._names = names
        # Rows with other keys than those of the polled log would only be in the way there.
        self._renames = not getattr(format, "as_received", False)
        self._format = format.adding(dict(shape.add_fields)) if shape.add_fields else format
        self._normalisers = normalisers
        self._accounts = accounts
        self._shape = shape
        self._filters = shape.only is not None or shape.unless is not None
        self._hider = shape.hider()
        self._bodies = shape.bodies(usual=format.request_bodies)

    def __call__(self, page: StoredPage) -> Rendered:
        """Return the page's events as this sink gets them; never raises for a row.

        A page that cannot be rendered whole is rendered row by row, and names those at fault.
        """
        name = self._names.get(StreamKey(page.account_id, page.stream), page.stream)
        if not name:
            return Rendered((), page.end_offset, page.count)
        label = self._accounts.get(page.account_id, page.account_id)
        origin = Origin(page.account_id, label, name, page.seen_us, page.stream)
        normaliser = self._normalisers.get(page.stream, OWN_EVENTS)
        columns, failed = _Columns.of(page), list[Rejection]()
        try:
            events = self._all(columns, origin, normaliser)
        except Exception:  # noqa: BLE001 - each row tells its own fault below
            events, failed = self._one_by_one(columns, origin, normaliser)
        filtered = page.count - len(events) - len(failed)
        return Rendered(events, page.end_offset, filtered, tuple(failed))

    def _one_by_one(
        self, columns: _Columns, origin: Origin, normaliser: Normaliser
    ) -> tuple[list[BatchEvent], list[Rejection]]:
        """Render each row alone, so that one that cannot be rendered stops no other."""
        events: list[BatchEvent] = []
        failed: list[Rejection] = []
        for row in columns.apart():
            try:
                events += self._all(row, origin, normaliser)
            except MemoryError:  # no row's fault
                raise
            except Exception as error:  # noqa: BLE001 - a format's fault must not stop a sink
                reason = f"cannot be rendered: {unforeseen(error)}"
                failed.append(Rejection(row.offsets[0], reason))
        return events, failed

    def _all(self, columns: _Columns, origin: Origin, normaliser: Normaliser) -> list[BatchEvent]:
        """Return the events that the sink gets of these rows."""
        if self._filters:
            # Filters see the row as it came: a hidden field can still choose events.
            columns = columns.keep(list(map(self._shape.wants, columns.events(origin, normaliser))))
        if not self._renames:
            origin = origin._replace(stream=origin.stored_as)
        if self._hider:
            columns = columns._replace(rows=list(map(self._hider.hide, columns.rows)))
        if normaliser.usual and isinstance(self._format, RendersRows):
            _, rows, ids, times_us = columns
            lines = self._format.render_rows(rows, ids, times_us, origin, normaliser, self._bodies)
            outcomes, users = normaliser.usual.summarise(rows, self._bodies)
            return _assemble(columns, origin, repeat(origin.account), outcomes, users, lines)
        events = [showing(event, self._bodies) for event in columns.events(origin, normaliser)]
        return _assemble(
            columns,
            origin,
            [event.origin.account for event in events],
            [event.outcome for event in events],
            [event.user for event in events],
            list(map(self._format.render, events)),
        )


class _Columns(NamedTuple):
    """Rows, and what a page knows of them: a value a row in each column."""

    offsets: Sequence[int]
    rows: Sequence[Mapping[str, Any]]
    ids: Sequence[str]
    times_us: Sequence[int]

    @classmethod
    def of(cls, page: StoredPage) -> _Columns:
        offsets = range(page.first_offset, page.end_offset)
        return cls(offsets, page.rows, page.hex_ids, page.times_us)

    def apart(self) -> list[_Columns]:
        """Return the columns of each row alone."""
        return [_Columns._make([value] for value in row) for row in zip(*self, strict=True)]

    def keep(self, keep: Sequence[bool]) -> _Columns:
        """Return the columns of the rows for which ``keep`` is True."""
        return _Columns._make(list(compress(column, keep)) for column in self)

    def events(self, origin: Origin, normaliser: Normaliser) -> list[Event]:
        """Return the event of each row."""
        return list(map(normaliser.normalise, self.rows, repeat(origin), self.ids, self.times_us))


def _assemble(
    columns: _Columns,
    origin: Origin,
    accounts: Any,
    outcomes: Sequence[str],
    users: Sequence[str],
    bodies: Sequence[bytes],
) -> list[BatchEvent]:
    """Make the sink's events out of their columns; raises ``NoLineError``."""
    if len(bodies) != len(columns.rows) or {*map(type, bodies)} - {bytes}:
        raise NoLineError
    values = zip(
        columns.offsets,
        columns.ids,
        repeat(origin.stream),
        accounts,
        columns.times_us,
        repeat(origin.seen_us),
        outcomes,
        users,
        bodies,
        # Some columns repeat for ever; the one whose length a format decides is checked above.
        strict=False,
    )
    # Without the call of Python code that BatchEvent(...) is: it would run for every row.
    return list(map(tuple.__new__, repeat(BatchEvent), values))


_EVENT_BYTES = 400
"""About what an event takes beside its body."""


class RenderedPages:
    """Pages that one sink has rendered and others will ask for; bounded in bytes.

    Sinks that keep up ask for the same page one shortly after the other, so the page rendered
    longest ago is dropped first, and a page that all have taken at once. A sink far behind finds
    nothing here, and takes the room of nothing that the others need: they are done with its pages.
    """

    def __init__(self, max_bytes: int) -> None:
        """Hold at most ``max_bytes`` of bodies and what belongs to them."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._pages: OrderedDict[Any, tuple[Rendered, int, int]] = OrderedDict()

    @property
    def bytes(self) -> int:
        """Return how much is held."""
        return self._bytes

    def take(self, key: Any) -> Rendered | None:
        """Return what was kept under ``key``, for the last time if nobody else will ask."""
        found = self._pages.pop(key, None)
        if found is None:
            return None
        rendered, size, takers = found
        self._bytes -= size
        if takers > 1:
            self._put(key, rendered, size, takers - 1)
        return rendered

    def keep(self, key: Any, rendered: Rendered, takers: int) -> None:
        """Keep a page for ``takers`` more sinks, unless it alone is more than there is room for."""
        size = sum(len(event.body) + _EVENT_BYTES for event in rendered.events)
        if takers > 0 and size <= self._max_bytes and key not in self._pages:
            self._put(key, rendered, size, takers)

    def _put(self, key: Any, rendered: Rendered, size: int, takers: int) -> None:
        self._pages[key] = (rendered, size, takers)
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._bytes -= self._pages.popitem(last=False)[1][1]


class Pipelines:
    """Makes the ``Render`` of each sink; sinks with the same format and shape share one."""

    def __init__(
        self,
        normalisers: Mapping[str, Normaliser],
        accounts: Mapping[str, str],
        *,
        names: Mapping[StreamKey, str] = _OWN_NAMES,
        max_bytes: int = 16 * 2**20,
    ) -> None:
        """Take what all sinks share: see ``Pipeline``; ``max_bytes`` bounds all shared pages."""
        self._names = names
        self._normalisers = normalisers
        self._accounts = accounts
        self._pages = RenderedPages(max_bytes)
        self._shared: list[_SharedPipeline] = []

    def render_for(
        self, plugin: Callable[[Any], Format], config: Any, shape: Shape, shard: int = 0
    ) -> Render:
        """Return the ``Render`` for a sink; call it once a sink, and ``release`` what it gave.

        Pages of different shards have the same offsets, and are never shared.
        """
        settings = (plugin, config, shape, shard)
        for shared in self._shared:
            if shared.settings == settings:
                shared.join()
                return shared
        pipeline = Pipeline(plugin(config), self._normalisers, self._accounts, shape, self._names)
        self._shared.append(_SharedPipeline(settings, pipeline, self._pages))
        return self._shared[-1]

    def release(self, render: Render) -> None:
        """Forget a sink that is gone; pages are no longer kept for it."""
        self._shared = [one for one in self._shared if one is not render or one.leave()]


class _SharedPipeline:
    """One pipeline for some sinks."""

    def __init__(self, settings: Any, pipeline: Pipeline, pages: RenderedPages) -> None:
        self.settings = settings
        self._sinks = 1
        self._pipeline = pipeline
        self._pages = pages

    def join(self) -> None:
        self._sinks += 1

    def leave(self) -> bool:
        """Return True if there is still a sink."""
        self._sinks -= 1
        return self._sinks > 0

    def __call__(self, page: StoredPage) -> Rendered:
        if self._sinks == 1:
            return self._pipeline(page)
        # Not by id(): another pipeline may get the id of one that is gone.
        key = (self, page.first_offset, page.count)
        rendered = self._pages.take(key)
        if rendered is None:
            rendered = self._pipeline(page)
            self._pages.keep(key, rendered, self._sinks - 1)
        return rendered
