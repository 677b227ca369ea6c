"""What happens in the journal that a person may want to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forwarder.core.telemetry import TelemetryEvent


def with_name(scope: str, labels: Mapping[str, str]) -> str:
    """Return a gap's scope with the account's name, out of ``labels``, in place of its id."""
    account_id, slash, stream = scope.partition("/")
    return f"{labels.get(account_id, account_id)}{slash}{stream}"


@dataclass(frozen=True, slots=True)
class GapOpened(TelemetryEvent):
    """Rows were, or may have been, lost; ``scope`` is ``account/stream`` or ``sink:NAME``."""

    scope: str
    reason: str
    since_us: int
    until_us: int
    rows: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class GapClosed(TelemetryEvent):
    """Nothing more is being lost for this reason."""

    scope: str
    reason: str
    rows: int | None


@dataclass(frozen=True, slots=True)
class RowsDropped(TelemetryEvent):
    """A best-effort sink's oldest rows made room (``when_full: drop_oldest``)."""

    sink: str
    rows: int


@dataclass(frozen=True, slots=True)
class JournalPruned(TelemetryEvent):
    """Pages whose bodies were emptied and pages that were removed, with their bytes."""

    emptied: int
    removed: int
    bytes: int
