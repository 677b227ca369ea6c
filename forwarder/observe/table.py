"""Which function turns which happening into its metric and its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

from forwarder.core.telemetry import TelemetryEvent
from forwarder.observe.lines import Line
from forwarder.observe.metrics import Metrics

_H = TypeVar("_H", bound=TelemetryEvent)
Handler: TypeAlias = Callable[[Any, Metrics], Line | None]


class Table:
    """Handlers by the class they are for; filled while a module is imported, then only read."""

    def __init__(self) -> None:
        """Begin empty."""
        self._handlers: dict[type[TelemetryEvent], Handler] = {}

    def on(
        self, kind: type[_H]
    ) -> Callable[[Callable[[_H, Metrics], Line | None]], Callable[[_H, Metrics], Line | None]]:
        """Let the decorated function handle ``kind``."""

        def register(
            handler: Callable[[_H, Metrics], Line | None],
        ) -> Callable[[_H, Metrics], Line | None]:
            self._handlers[kind] = handler
            return handler

        return register

    def __iter__(self) -> Iterator[tuple[type[TelemetryEvent], Handler]]:
        return iter(self._handlers.items())
