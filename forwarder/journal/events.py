"""What happens in the journal that a person may want to know."""

from __future__ import annotations

from collections.abc import Mapping

from forwarder.core.telemetry import (
    DEBUG,
    ERROR,
    INFO,
    WARNING,
    TelemetryEvent,
    constant,
    event,
    instant,
    shown,
)


def with_name(scope: str, labels: Mapping[str, str]) -> str:
    """Return a gap's scope with the account's name, out of ``labels``, in place of its id."""
    account_id, slash, stream = scope.partition("/")
    return f"{labels.get(account_id, account_id)}{slash}{stream}"


def _parties(scope: str) -> tuple[str | None, str | None, str | None]:
    """Return account, stream and sink of a gap; None for what the scope does not name."""
    if scope.startswith("sink:"):
        return None, None, scope.removeprefix("sink:")
    account, _, stream = scope.rpartition("/")
    return account, stream, None


@event("gap_opened", ERROR, hint="forwarder gaps list")
class GapOpened(TelemetryEvent):
    """Rows were, or may have been, lost.

    ``scope`` is ``account/stream`` or ``sink:NAME``; ``rows`` is None if their number is unknown.
    """

    scope: str = shown("account", "stream", "sink", by=_parties)
    reason: str
    since_us: int = instant("from")
    until_us: int = instant("to")
    rows: int | None
    detail: str


@event("gap_closed", INFO)
class GapClosed(TelemetryEvent):
    """Nothing more is being lost for this reason."""

    scope: str = shown("account", "stream", "sink", by=_parties)
    reason: str
    rows: int | None


@event("rows_dropped", WARNING, limited=True)
class RowsDropped(TelemetryEvent):
    """A best-effort sink lost its oldest rows to make room."""

    sink: str
    rows: int
    reason: str = constant("when_full: drop_oldest")


@event("journal_pruned", DEBUG)
class JournalPruned(TelemetryEvent):
    """Delivered rows were removed from the journal.

    ``emptied`` pages lost their bodies, ``removed`` pages are gone; ``bytes`` is the sum of both.
    """

    emptied: int
    removed: int
    bytes: int
