"""Times on the wire: RFC 3339 text to and from whole microseconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def parse_moment(text: str) -> int:
    """Return the microseconds since the epoch of an RFC 3339 date-time, finer digits cut off.

    Raises:
        ValueError: the text is no date-time, or lacks the offset that RFC 3339 demands.

    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or "T" not in text.upper():
        raise ValueError(f"{text!r} is not an RFC 3339 date-time")
    try:
        return (moment - _EPOCH) // _MICROSECOND
    except OverflowError as error:
        raise ValueError(str(error)) from error


def microseconds(seconds: float) -> int:
    """Return whole microseconds of an epoch time or duration in seconds."""
    return round(seconds * 1_000_000)


@lru_cache(maxsize=64)
def format_second(second: int) -> str:
    """Return `2026-07-02T15:03:00` for a whole epoch second, without fraction and offset."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def format_moment(time_us: int, digits: int = 6) -> str:
    """Return an RFC 3339 date-time in UTC with `digits` (0 to 6) fractional digits."""
    second, fraction = divmod(time_us, 1_000_000)
    text = format_second(second)
    return f"{text}.{fraction:06d}"[: len(text) + 1 + digits] + "Z" if digits else f"{text}Z"
