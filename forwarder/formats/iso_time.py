"""RFC 3339 for formats that write it: many rows of one second, one call to the calendar."""

from __future__ import annotations

from functools import lru_cache

from forwarder.core.timestamps import format_seconds

_REMEMBERED_SECONDS = 256


def iso_text(time_us: int) -> str:
    """Return ``2026-01-01T00:00:00.000000Z`` for microseconds since 1970."""
    second, rest = divmod(time_us, 1_000_000)
    return f"{_second(second)}.{rest:06d}Z"


@lru_cache(_REMEMBERED_SECONDS)
def _second(second: int) -> str:
    return format_seconds(second * 1_000_000)[:-1]
