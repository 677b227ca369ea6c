"""How many writes may be under way at once: found out, not configured. Pure."""

from __future__ import annotations


class FlightWindow:
    """Between one write and ``most``.

    Starts at one, doubles with each full round until the first throttle, then adds one with each
    full round; halves on trouble.
    """

    def __init__(self, most: int) -> None:
        """Start at one."""
        self._most = max(1, most)
        self._size = 1.0
        self._doubling = True
        self._deaf = 0

    @property
    def size(self) -> int:
        """Return how many writes may be under way."""
        return int(self._size)

    def succeeded(self, *, full: bool) -> None:
        """Count an accepted write; ``full`` says that the window was used up meanwhile."""
        self._deaf = max(0, self._deaf - 1)
        if full:
            self._size = min(self._most, self._size + (1 if self._doubling else 1 / self._size))

    def throttled(self) -> bool:
        """Halve because the destination asked for less, and add slowly from now on.

        The writes that were under way at that moment will say the same: they count once. Returns
        whether this one counted.
        """
        self._doubling = False
        if self._deaf > 0:
            self._deaf -= 1
            return False
        self.failed()
        return True

    def failed(self) -> None:
        """Halve after an outage."""
        self._deaf = self.size - 1
        self._size = max(1.0, self._size / 2)
