"""Clocks, waiting times and timestamps.

Time as an argument: the real clock here, a fake one in ``forwarder.testing``.

What time it is at a server that tells it in its answers, believed with care.

How long to wait before trying again: exponential, full jitter, the other side's wish first.

RFC 3339 to microseconds since 1970 and back. Never guesses: what is not a time is None.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple, Protocol


class Clock(Protocol):
    """Wall time, elapsed time and waiting."""

    def now_us(self) -> int:
        """Return the wall clock in microseconds since 1970, UTC. It may jump."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only ever grow; their origin means nothing."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellation is passed on."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_us(self) -> int:
        """Return the wall clock in microseconds since 1970, UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Return the machine's monotonic clock in seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the running event loop."""
        await asyncio.sleep(seconds)


_SECOND_US = 1_000_000
_PLAUSIBLE_US = 60 * _SECOND_US
_NEAR_US = 3600 * _SECOND_US
_DOUBT_S = 60.0


class ServerClock:
    """Knows what time it is at the API, from the ``Date`` of its answers.

    Between answers our monotonic clock carries it on, so jumps of the wall clock do not matter.
    """

    def __init__(self) -> None:
        """Know nothing until the first answer."""
        self._told: _Told | None = None
        self._doubted: _Told | None = None

    @property
    def known(self) -> bool:
        """Return True once an answer has told the time."""
        return self._told is not None

    def tell(self, server_us: int | None, monotonic: float, wall_us: int | None = None) -> None:
        """Take the time of an answer that arrived at ``monotonic`` seconds, if it had one.

        ``wall_us`` is this machine's time, which is asked about the first answer only.
        """
        if server_us is None:
            return
        told = _Told(server_us, monotonic)
        # A time far from what earlier answers said, or the first from our own clock, is not
        # believed until every answer of a minute agrees with it: machines with a wrong clock, at
        # whichever end, must not move positions or make gaps.
        doubted = self._doubted if self._doubted and self._doubted.agrees(told) else None
        if self._told is not None:
            plausible = self._told.agrees(told)
        else:
            plausible = wall_us is None or abs(wall_us - server_us) <= _NEAR_US
        if plausible or (doubted and monotonic - doubted.monotonic >= _DOUBT_S):
            self._told, self._doubted = told, None
        else:
            self._doubted = doubted or told

    def now_us(self, monotonic: float) -> int:
        """Return the server's time in microseconds, cut to its whole second.

        Raises ``LookupError`` before the first answer.
        """
        if self._told is None:
            raise LookupError("no answer has told the time yet")
        # Whole seconds, downwards: Date has no fractions, and rows of this second may still come.
        return self._told.carried_on(monotonic) // _SECOND_US * _SECOND_US


class _Told(NamedTuple):
    """What time an answer told, and when it arrived."""

    server_us: int
    monotonic: float

    def carried_on(self, monotonic: float) -> int:
        """Return what time it must be by now."""
        return self.server_us + int(max(0.0, monotonic - self.monotonic) * _SECOND_US)

    def agrees(self, later: _Told) -> bool:
        """Return True if a later answer fits this one."""
        return abs(self.carried_on(later.monotonic) - later.server_us) <= _PLAUSIBLE_US


@dataclass(frozen=True, slots=True)
class Backoff:
    """Bounds of the waiting time in seconds.

    ``slow_initial`` and ``slow_max`` serve faults that a person must fix: hammering a wrong token
    helps nobody, yet it must heal within minutes of being fixed.
    """

    initial: float = 1.0
    max: float = 30.0
    slow_initial: float = 15.0
    slow_max: float = 60.0

    def delay(
        self, attempt: int, rng: Random, *, retry_after: float | None = None, slow: bool = False
    ) -> float:
        """Return seconds to wait after failed attempt number ``attempt`` (1 is the first).

        Full jitter: uniform between zero and the growing ceiling, for slow faults between half
        the ceiling and the ceiling. What the other side asked for is a lower bound.
        """
        first, most = (self.slow_initial, self.slow_max) if slow else (self.initial, self.max)
        # An outage of days has thousands of attempts, and 2.0 ** 1024 overflows.
        ceiling = min(most, first * 2.0 ** min(attempt - 1, 30))
        # Full jitter may draw almost nothing, which would hammer a wrong token.
        wait = rng.uniform(ceiling / 2 if slow else 0.0, ceiling)
        # Retry-After is the same for all who received it: a little more spreads them.
        return wait if retry_after is None else retry_after + rng.uniform(0.0, min(1.0, ceiling))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_A_DAY = 86_400
_SHORTEST = len("2026-01-01T00:00:00Z")
EARLIEST_US = -62_135_596_800_000_000
LATEST_US = 253_402_300_799_999_999
"""The first and the last moment that has a text: years 1 to 9999."""
# Seconds, milliseconds, microseconds and nanoseconds of the years 1973 to 5138 never overlap.
_UNITS = ((10**11, 1_000_000, 1), (10**14, 1000, 1), (10**17, 1, 1), (10**20, 1, 1000))


def parse_us(value: Any) -> int | None:
    """Return microseconds for an RFC 3339 text with a zone and any precision, else None.

    Digits beyond the sixth are cut. A leap second counts as the second after it. Times outside
    the years 1 to 9999 UTC are no times.
    """
    # fromisoformat takes any character between date and time, RFC 3339 only these.
    if not isinstance(value, str) or len(value) < _SHORTEST or value[10] not in "Tt ":
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return _unusual_us(value)
    if moment.tzinfo is None:
        return None
    since = moment - _EPOCH
    # Whole numbers: timestamp() is a float, and cutting it may lose a microsecond.
    time_us = (since.days * _SECONDS_A_DAY + since.seconds) * 1_000_000 + since.microseconds
    return _in_range(time_us)


def _in_range(time_us: int) -> int | None:
    # An offset can lead out of the years: 9999-12-31T23:59:59-01:00 is a year 10000.
    return time_us if EARLIEST_US <= time_us <= LATEST_US else None


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
    # RFC 3339 has leap seconds, datetime has none.
    before = parse_us(f"{value[:17]}59{value[19:]}")
    return None if before is None else _in_range(before + 1_000_000)


def moment_us(value: Any) -> int | None:
    """Return microseconds for RFC 3339, or for a Unix time in s, ms, us or ns; else None."""
    if isinstance(value, str) and not value.isdecimal():
        return parse_us(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    # Never through a float: nanoseconds have 19 digits.
    number = int(value) if len(str(value)) <= len(str(2**64)) else 0
    for most, times, through in _UNITS:
        if 0 < number < most:
            return _in_range(number * times // through)
    return None


def format_us(time_us: int) -> str:
    """Return ``2026-01-01T00:00:00.000000Z`` for microseconds since 1970.

    A moment that has no text is written as the nearest that has one.
    """
    moment = _EPOCH + timedelta(microseconds=min(max(time_us, EARLIEST_US), LATEST_US))
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def format_seconds(time_us: int) -> str:
    """Return ``2026-01-01T00:00:00Z``: whole seconds, cut downwards."""
    seconds = min(max(time_us, EARLIEST_US), LATEST_US) // 1_000_000
    moment = _EPOCH + timedelta(seconds=seconds)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
