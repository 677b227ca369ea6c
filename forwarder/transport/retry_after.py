"""The ``Retry-After`` header in both its forms."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?")
_LONGEST = 3600.0


def parse_retry_after(value: str | None, now_us: int) -> float | None:
    """Return how many seconds to wait, between 0 and an hour, or None for what says nothing.

    ``value`` is a number of seconds or an HTTP date; ``now_us`` is the wall clock in microseconds.
    An hour at most: a clock gone wrong on the other side must not silence us for years.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), _LONGEST)
    try:
        moment = parsedate_to_datetime(text)
        wait = moment.timestamp() - now_us / 1_000_000
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return min(max(wait, 0.0), _LONGEST)
