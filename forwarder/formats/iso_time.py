"""RFC 3339 for formats that write it: one call to the calendar a day, not a row."""

from __future__ import annotations

from functools import lru_cache

from forwarder.core.timestamps import format_seconds

_DAY = 86_400
_REMEMBERED_DAYS = 64


def iso_text(time_us: int) -> str:
    """Return ``2026-01-01T00:00:00.000000Z`` for microseconds since 1970."""
    seconds, rest = divmod(time_us, 1_000_000)
    day, second = divmod(seconds, _DAY)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f"{_date(day)}{hour:02d}:{minute:02d}:{second:02d}.{rest:06d}Z"


@lru_cache(_REMEMBERED_DAYS)
def _date(day: int) -> str:
    """Return date and ``T`` of the day of this number since 1970."""
    return format_seconds(day * _DAY * 1_000_000)[: len("2026-01-01T")]
