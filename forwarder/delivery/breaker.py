"""Tells a few bad events from a destination that refuses everything. Pure."""

from __future__ import annotations

from collections.abc import Iterable


class Breaker:
    """Counts refusals in a row for one reason; an accepted event in between starts anew.

    Whether something was accepted in between is judged by the write: a write that had at least
    one event accepted ends the row.
    """

    def __init__(self, most: int) -> None:
        """Trip at ``most`` refusals in a row."""
        self._most = most
        self._reason = ""
        self._row = 0

    @property
    def tripped(self) -> bool:
        """Say whether the row is too long; only an accepted event ends that."""
        return self._row >= self._most

    def accepted(self) -> None:
        """The destination took at least one event."""
        self._row = 0

    def refused(self, reasons: Iterable[str]) -> bool:
        """Count refusals in order; return whether the row has become too long."""
        for reason in reasons:
            if reason != self._reason:
                self._reason, self._row = reason, 0
            self._row += 1
            if self.tripped:
                return True
        return False
