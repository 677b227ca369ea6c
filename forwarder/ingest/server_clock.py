"""The other side's clock, carried on by our monotonic one: wall-clock jumps do not matter."""

from __future__ import annotations


class ServerClock:
    """Knows what time it is at the API, from the ``Date`` of its answers."""

    def __init__(self) -> None:
        """Know nothing until the first answer."""
        self._server_us: int | None = None
        self._at = 0.0

    @property
    def known(self) -> bool:
        """Return whether an answer has told the time yet."""
        return self._server_us is not None

    def tell(self, server_us: int | None, monotonic: float) -> None:
        """Take the time of an answer that arrived at ``monotonic`` seconds, if it had one."""
        if server_us is not None:
            self._server_us, self._at = server_us, monotonic

    def now_us(self, monotonic: float) -> int:
        """Return the server's time in microseconds, cut to its whole second.

        Raises ``LookupError`` before the first answer.
        """
        if self._server_us is None:
            raise LookupError("no answer has told the time yet")
        passed = max(0.0, monotonic - self._at)
        return (self._server_us + int(passed * 1_000_000)) // 1_000_000 * 1_000_000
