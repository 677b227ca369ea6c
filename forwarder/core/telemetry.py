"""Telemetry as named things that happened.

Each room declares its own subclasses beside its logic and reports one with one call; ``observe``
turns each into its metric and its log line, so that the two cannot disagree. A happening carries
counts and names, never a row and never a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class TelemetryEvent:
    """Something that happened once, at the moment it is reported."""


Emit: TypeAlias = Callable[[TelemetryEvent], None]
"""What the logic is given to report with; it returns at once and never raises."""


def ignore(_: TelemetryEvent) -> None:
    """Report to nobody; for code that runs outside the daemon."""
