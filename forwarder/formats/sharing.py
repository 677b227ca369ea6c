"""Sinks with the same format and the same shape render each page once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from forwarder.core.contracts import Format, Render, Rendered, StoredPage
from forwarder.core.schema import Normaliser
from forwarder.formats.pipeline import Pipeline, Shape

_EVENT_BYTES = 400
"""What an event takes beside its body, about."""


_LEAST_ROOM = 8
"""Part of the room that stays, for sinks that come close again."""


class RenderedPages:
    """Pages that one sink has rendered and others will ask for; bounded in bytes.

    Sinks that keep up ask for the same page one shortly after the other, so the page rendered
    longest ago goes first; and what all have taken goes at once. A sink far behind the others
    finds nothing here, but takes the room of nothing they need: they are done with those pages.
    Nor does it cost them much: the room shrinks while pages go untaken and grows when one is found.
    """

    def __init__(self, max_bytes: int) -> None:
        """Hold at most ``max_bytes`` of bodies and what belongs to them."""
        self._max_bytes = max_bytes
        self._room = max_bytes
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
        self._room = min(self._max_bytes, self._room * 2)
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
        full = self._bytes > self._room
        while self._bytes > self._room and len(self._pages) > 1:
            self._bytes -= self._pages.popitem(last=False)[1][1]
        if full:
            self._room = max(self._max_bytes // _LEAST_ROOM, self._room // 2)


class Pipelines:
    """Makes the ``Render`` of each sink; what is alike is shared."""

    def __init__(
        self,
        normalisers: Mapping[str, Normaliser],
        accounts: Mapping[str, str],
        *,
        max_bytes: int = 32 * 2**20,
    ) -> None:
        """Take what all sinks share: see ``Pipeline``; ``max_bytes`` bounds all shared pages."""
        self._normalisers = normalisers
        self._accounts = accounts
        self._pages = RenderedPages(max_bytes)
        self._shared: list[_SharedPipeline] = []

    def render_for(self, plugin: Callable[[Any], Format], config: Any, shape: Shape) -> Render:
        """Return the ``Render`` for a sink; call it once a sink, and ``release`` what it gave."""
        for shared in self._shared:
            if shared.serves(plugin, config, shape):
                shared.sinks += 1
                return shared
        pipeline = Pipeline(plugin(config), self._normalisers, self._accounts, shape)
        shared = _SharedPipeline(plugin, config, shape, pipeline, self._pages)
        self._shared.append(shared)
        return shared

    def release(self, render: Render) -> None:
        """Say that a sink is gone; pages are no longer kept for it."""
        for shared in self._shared:
            if shared is render:
                shared.sinks -= 1
        self._shared = [shared for shared in self._shared if shared.sinks > 0]


class _SharedPipeline:
    """One pipeline for some sinks."""

    def __init__(
        self,
        plugin: Callable[[Any], Format],
        config: Any,
        shape: Shape,
        pipeline: Pipeline,
        pages: RenderedPages,
    ) -> None:
        self.sinks = 1
        self._settings = (plugin, config, shape)
        self._pipeline = pipeline
        self._pages = pages

    def serves(self, plugin: Callable[[Any], Format], config: Any, shape: Shape) -> bool:
        return self._settings == (plugin, config, shape)

    def __call__(self, page: StoredPage) -> Rendered:
        if self.sinks == 1:
            return self._pipeline(page)
        key = (id(self), page.first_offset, page.count)
        rendered = self._pages.take(key)
        if rendered is None:
            rendered = self._pipeline(page)
            self._pages.keep(key, rendered, self.sinks - 1)
        return rendered
