"""RFC 3339 to microseconds since 1970 and back. Never guesses: what is not a time is None."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_A_DAY = 86_400
_SHORTEST = len("2026-01-01T00:00:00Z")
_EARLIEST_US = -62_135_596_800_000_000
_LATEST_US = 253_402_300_799_999_999


def parse_us(value: Any) -> int | None:
    """Return microseconds for an RFC 3339 text with a zone and any precision, else None.

    Digits beyond the sixth are cut. A leap second counts as the second after it. Times outside
    the years 1 to 9999 UTC are no times.
    """
    if not isinstance(value, str) or len(value) < _SHORTEST or value[10] not in "Tt ":
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return _unusual_us(value)
    if moment.tzinfo is None:
        return None
    since = moment - _EPOCH
    time_us = (since.days * _SECONDS_A_DAY + since.seconds) * 1_000_000 + since.microseconds
    return _in_range(time_us)


def _in_range(time_us: int) -> int | None:
    return time_us if _EARLIEST_US <= time_us <= _LATEST_US else None


def times_us(values: Sequence[Any]) -> list[int | None]:
    """Return ``parse_us`` of every value; a text that stands in many rows is read once."""
    try:
        known = {value: parse_us(value) for value in set(values)}
    except TypeError:  # a list or an object where a time should be
        return [parse_us(value) for value in values]
    return list(map(known.__getitem__, values))


def _unusual_us(value: str) -> int | None:
    """Read what RFC 3339 allows and ``fromisoformat`` does not: small letters, second 60."""
    if value.upper() != value:
        return parse_us(value.upper())
    if value[17:19] != "60":
        return None
    before = parse_us(f"{value[:17]}59{value[19:]}")
    return None if before is None else _in_range(before + 1_000_000)


def format_us(time_us: int) -> str:
    """Return ``2026-01-01T00:00:00.000000Z`` for microseconds since 1970."""
    moment = _EPOCH + timedelta(microseconds=time_us)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def format_seconds(time_us: int) -> str:
    """Return ``2026-01-01T00:00:00Z``: whole seconds, cut downwards."""
    moment = _EPOCH + timedelta(seconds=time_us // 1_000_000)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
