"""The other side's clock, carried on by our monotonic one: wall-clock jumps do not matter."""

from __future__ import annotations

_PLAUSIBLE_US = 60_000_000


class ServerClock:
    """Knows what time it is at the API, from the ``Date`` of its answers.

    One answer that is far from what the ones before it said is not believed until the next one
    says the same: a single machine with a wrong clock must not move positions.
    """

    def __init__(self) -> None:
        """Know nothing until the first answer."""
        self._server_us: int | None = None
        self._at = 0.0
        self._doubted: tuple[int, float] | None = None

    @property
    def known(self) -> bool:
        """Return whether an answer has told the time yet."""
        return self._server_us is not None

    def tell(self, server_us: int | None, monotonic: float) -> None:
        """Take the time of an answer that arrived at ``monotonic`` seconds, if it had one."""
        if server_us is None:
            return
        expected = None if self._server_us is None else (self._server_us, self._at)
        agreeing = [one for one in (expected, self._doubted) if one is not None]
        if expected is None or any(_agree(one, server_us, monotonic) for one in agreeing):
            self._server_us, self._at, self._doubted = server_us, monotonic, None
        else:
            self._doubted = (server_us, monotonic)

    def now_us(self, monotonic: float) -> int:
        """Return the server's time in microseconds, cut to its whole second.

        Raises ``LookupError`` before the first answer.
        """
        if self._server_us is None:
            raise LookupError("no answer has told the time yet")
        return _carried_on((self._server_us, self._at), monotonic) // 1_000_000 * 1_000_000


def _carried_on(told: tuple[int, float], monotonic: float) -> int:
    return told[0] + int(max(0.0, monotonic - told[1]) * 1_000_000)


def _agree(told: tuple[int, float], server_us: int, monotonic: float) -> bool:
    return abs(_carried_on(told, monotonic) - server_us) <= _PLAUSIBLE_US
