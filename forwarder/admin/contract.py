"""What the admin server and the control socket ask of the running daemon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

Command: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Carries out one command with JSON values in and out; a ``ForwarderError`` is told as such."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A health check's answer: whether all is well, and what is not."""

    well: bool
    reasons: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class Overview(Protocol):
    """The daemon as seen from outside; every method is quick and never raises."""

    def live(self) -> Verdict:
        """Tell whether every loop gives signs of life."""
        ...

    def ready(self) -> Verdict:
        """Tell whether events flow, or why not."""
        ...

    async def status(self) -> Mapping[str, Any]:
        """Return the whole state as JSON values."""
        ...

    def history(self) -> Mapping[str, Any]:
        """Return the last hour as JSON values: one list a measure, one entry a moment."""
        ...

    async def metrics(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        ...
