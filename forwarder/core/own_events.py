"""What the forwarder says about itself: the rows it stores, and how they become events.

The rows lie in the journal as stream ``forwarder`` and reach every sink that does not exclude
them. Their keys: ``event``, ``time`` (RFC 3339), ``account_id``, ``account``, ``stream`` and, where
they apply, ``sink``, ``reason``, ``from``, ``to``, ``rows``, ``detail``, ``version``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from forwarder.core.contracts import StreamKey
from forwarder.core.masking import mask_row
from forwarder.core.schema import (
    FAILURE,
    MALFORMED_KEY,
    SUCCESS,
    UNKNOWN,
    Normaliser,
    Origin,
    OwnEvent,
)
from forwarder.core.timing import format_us


class Own(StrEnum):
    """The forwarder's own events."""

    # These texts lie in journals and in people's searches: a new name would break both.
    START = "start"
    STOP = "stop"
    CONFIG_RELOADED = "config_reloaded"
    GAP_OPENED = "gap_opened"
    GAP_CLOSED = "gap_closed"
    LATE_ROWS = "late_rows"
    COVERAGE = "coverage"


_OUTCOMES: Mapping[str, str] = {
    Own.START: SUCCESS,
    Own.STOP: SUCCESS,
    Own.CONFIG_RELOADED: SUCCESS,
    Own.GAP_OPENED: FAILURE,
    Own.GAP_CLOSED: SUCCESS,
    Own.LATE_ROWS: SUCCESS,
    Own.COVERAGE: SUCCESS,
}
_TEXTS = ("stream", "sink", "reason", "from", "to", "detail", "version")
_OTHERS = ("event", "time", "account_id", "account", "rows")
_KNOWN = frozenset({*_TEXTS, *_OTHERS})


def own_row(  # noqa: PLR0913 - one keyword a key of the row
    event: Own,
    time_us: int,
    *,
    stream: StreamKey | None = None,
    account: str = "",
    sink: str = "",
    reason: str = "",
    since_us: int | None = None,
    until_us: int | None = None,
    rows: int | None = None,
    detail: str = "",
    version: str = "",
) -> dict[str, Any]:
    """Return the row for one own event; times are microseconds since 1970.

    ``stream`` is what it is about, if it is about one, and ``account`` that account's label. Keys
    without a value are left out.
    """
    row: dict[str, Any] = {"event": event.value, "time": format_us(time_us)}
    given = {
        "account_id": stream.account_id if stream else "",
        "account": account,
        "stream": stream.stream if stream else "",
        "sink": sink,
        "reason": reason,
        "from": "" if since_us is None else format_us(since_us),
        "to": "" if until_us is None else format_us(until_us),
        "rows": rows,
        "detail": detail,
        "version": version,
    }
    # Not by truth: 0 rows is something to say.
    row.update((key, value) for key, value in given.items() if value not in ("", None))
    return row


def normalise_own(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> OwnEvent:  # noqa: A002
    """Return the event of an own row; see ``forwarder.core.schema.Normalise``.

    The account is the row's where it names one: own events of all accounts share one stream.
    """
    # Rows of streams that nobody knows come here, too, and may hold anything.
    row = mask_row(row)
    texts = {key: _text(row.get(key)) for key in (*_TEXTS, "account_id", "account")}
    action, rows = _text(row.get("event")), row.get("rows")
    # True is an int to Python, and no number of rows.
    counted = rows if isinstance(rows, int) and not isinstance(rows, bool) else None
    malformed = MALFORMED_KEY in row
    return OwnEvent(
        origin._replace(
            account_id=texts["account_id"] or origin.account_id,
            account=texts["account"] or origin.account,
        ),
        id=id,
        time_us=time_us,
        row=row,
        action=action,
        outcome=_outcome(row),
        quality=("malformed",) if malformed else () if action else ("event",),
        extra={key: value for key, value in row.items() if key not in _KNOWN},
        about_stream=texts["stream"],
        about_sink=texts["sink"],
        reason=texts["reason"],
        since=texts["from"],
        until=texts["to"],
        rows=counted,
        detail=texts["detail"],
        version=texts["version"],
    )


def _outcome(row: Mapping[str, Any]) -> str:
    return _OUTCOMES.get(_text(row.get("event")), UNKNOWN)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


OWN_EVENTS = Normaliser(normalise_own, _KNOWN)
"""How the rows of stream ``forwarder`` become events."""
