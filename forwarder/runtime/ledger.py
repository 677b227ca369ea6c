"""What was lost or given up, as /status shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forwarder.core.timing import format_us
from forwarder.journal.dead_letters import LetterGroup
from forwarder.journal.events import with_name
from forwarder.journal.ledger import Gap, GapCount


def gaps_json(
    counted: GapCount, latest: Sequence[Gap], labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the gap ledger; ``labels`` are the accounts' names by id."""
    return {
        "total": counted.total,
        "open": counted.open,
        "latest": [_gap_json(gap, labels) for gap in latest],
    }


def letters_json(groups: Sequence[LetterGroup]) -> list[dict[str, Any]]:
    """Return dead letters by sink and reason."""
    return [
        {
            "sink": group.sink,
            "reason": group.reason,
            "events": group.events,
            "latest": format_us(group.latest_us),
        }
        for group in groups
    ]


def _gap_json(gap: Gap, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "scope": _scope(gap.scope, labels),
        "reason": gap.reason,
        "since": format_us(gap.since_us),
        "until": format_us(gap.until_us),
        "rows": gap.rows,
        "detail": gap.detail,
        "opened": format_us(gap.opened_us),
        "closed": None if gap.closed_us is None else format_us(gap.closed_us),
    }


def _scope(scope: str, labels: Mapping[str, str]) -> str:
    """Return ``account/stream`` with the account's name, or ``sink NAME``."""
    if scope.startswith("sink:"):
        return scope.replace(":", " ", 1)
    return with_name(scope, labels)
