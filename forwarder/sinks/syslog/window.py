"""The messages that were acknowledged last, kept in case nobody has read them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Sent:
    frames: Sequence[bytes]
    size: int
    at: float


class ResendWindow:
    """The youngest messages up to ``most`` bytes and ``age`` seconds; pure, time is given.

    A receiver's kernel acknowledges what its program may never read: when that program dies, what
    was in its socket buffer is gone. So the window is at least as large as such a buffer should
    be. It is taken when a connection breaks and goes out first on the next one.
    """

    def __init__(self, most: int, age: float) -> None:
        """Keep nothing yet; with ``most`` 0 never anything."""
        self._most = most
        self._age = age
        self._sent: deque[_Sent] = deque()
        self._size = 0

    def add(self, frames: Sequence[bytes], now: float) -> None:
        """Remember framed messages that arrived at the monotonic second ``now``."""
        if not self._most or not frames:
            return
        kept, size = _tail(frames, self._most)
        self._sent.append(_Sent(kept, size, now))
        self._size += size
        while self._size - self._sent[0].size >= self._most:
            self._size -= self._sent.popleft().size

    def take(self, now: float) -> list[bytes]:
        """Remove and return what is young enough, in the order it was sent."""
        youngest = [sent for sent in self._sent if now - sent.at <= self._age]
        self._sent.clear()
        self._size = 0
        return [frame for sent in youngest for frame in sent.frames]


def _tail(frames: Sequence[bytes], most: int) -> tuple[Sequence[bytes], int]:
    """Return the last frames that together have at least ``most`` bytes, or all, and their size."""
    whole, size = sum(map(len, frames)), 0
    if whole <= most:
        return frames, whole
    for index in range(len(frames) - 1, -1, -1):
        size += len(frames[index])
        if size >= most:
            return frames[index:], size
    return frames, size
