"""What a person may set about the delivery to one sink, beside what the sink asks for itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from forwarder.core.contracts import BatchLimits
from forwarder.core.timing import Backoff

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOptions:
    """Settings of one sink's delivery; None leaves the sink's own limit as it is.

    ``max_wait``, ``timeout``, ``open_timeout``, ``close_timeout`` and ``longest_wait`` are
    seconds. ``longest_wait`` bounds what a destination may ask for in ``Retry-After``.
    ``breaker`` is the number of refusals in a row for one reason that holds the sink.
    """

    max_events: int | None = None
    max_bytes: int | None = None
    max_wait: float | None = None
    max_in_flight: int | None = None
    timeout: float | None = None
    backoff: Backoff = field(default_factory=Backoff)
    paused: bool = False
    breaker: int = 50
    open_timeout: float = 60.0
    close_timeout: float = 5.0
    longest_wait: float = 3600.0

    def limits(self, wanted: BatchLimits) -> BatchLimits:
        """Return the sink's own limits with what was set in their place."""
        return BatchLimits(
            max_events=max(1, _chosen(self.max_events, wanted.max_events)),
            max_bytes=max(1, _chosen(self.max_bytes, wanted.max_bytes)),
            max_wait=_chosen(self.max_wait, wanted.max_wait),
            max_in_flight=max(1, _chosen(self.max_in_flight, wanted.max_in_flight)),
            write_timeout=_chosen(self.timeout, wanted.write_timeout),
            max_event_bytes=wanted.max_event_bytes,
        )


def _chosen(own: T | None, given: T) -> T:
    return given if own is None else own
