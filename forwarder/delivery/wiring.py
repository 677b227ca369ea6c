"""What one consumer and its parts share; nothing in it changes."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from forwarder.core.contracts import BatchLimits, Render, Sink
from forwarder.core.errors import ForwarderError
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.delivery.condition import Condition
from forwarder.delivery.events import QueueFailed
from forwarder.delivery.faults import hint_of
from forwarder.delivery.options import DeliveryOptions
from forwarder.delivery.queue import SinkQueue


@dataclass(frozen=True, slots=True)
class Wiring:
    """One sink's name, its surroundings and its settings."""

    name: str
    sink: Sink
    queue: SinkQueue
    render: Render
    limits: BatchLimits
    options: DeliveryOptions
    clock: Clock
    rng: Random
    emit: Emit

    def condition(self, *, usable: bool = True) -> Condition:
        """Return the condition of one more thing that can fail."""
        return Condition(
            self.options.backoff,
            self.rng,
            longest_wait=self.options.longest_wait,
            usable=usable,
        )

    def queue_failed(self, doing: str, error: ForwarderError, wait: float) -> None:
        """Report that the journal could not be used."""
        self.emit(QueueFailed(self.name, str(error), hint_of(error), doing, wait))
