"""Whether something works, since when it does not, and when to try again. Pure but for chance."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from forwarder.core.errors import (
    ConfigError,
    ForwarderError,
    NeedsOperatorError,
    StateError,
    TransientError,
)
from forwarder.core.timing import Backoff


class Condition:
    """The health of one sink, or of the journal as this sink's consumer sees it.

    It is *usable* until something fails, and *in trouble* from then until something succeeds:
    while it is in trouble but usable again, it is being probed.
    """

    def __init__(
        self, backoff: Backoff, rng: Random, *, longest_wait: float, usable: bool = True
    ) -> None:
        """Begin without trouble."""
        self._backoff = backoff
        self._rng = rng
        self._longest_wait = longest_wait
        self._unproven = False
        self.usable = usable
        self.trouble: ForwarderError | None = None
        self.since = 0.0
        self.attempts = 0
        self.not_before = 0.0

    @property
    def needs_operator(self) -> bool:
        """Say whether only a person can mend it."""
        return isinstance(self.trouble, NeedsOperatorError | ConfigError | StateError)

    def failed(self, error: ForwarderError, now: float, *, writing: bool = True) -> None:
        """Stop using it until the waiting time is over.

        What failed while ``writing`` is mended by a write alone: a destination that lets
        everybody in and takes nothing does not work.
        """
        if self.trouble is None:
            self.since = now
        self._unproven = self._unproven or writing
        self.usable, self.trouble = False, error
        self.attempts += 1
        self.not_before = now + self._wait(error)

    def straggled(self, error: ForwarderError, now: float) -> None:
        """Take note of a write that was under way when another one failed.

        It is the same failure, but it may lengthen the wait or make it an operator's fault.
        """
        if isinstance(error, NeedsOperatorError) and not self.needs_operator:
            self.trouble = error
            self.not_before = max(self.not_before, now + self._wait(error))
        elif (asked := self._asked(error)) is not None:
            self.not_before = max(self.not_before, now + asked)

    def opened(self) -> None:
        """Use it again; the trouble is over unless only a write can show that."""
        self.usable = True
        if not self._unproven:
            self.trouble = None

    def works(self) -> None:
        """End the trouble; the count of attempts stays until something is accepted."""
        self.trouble, self._unproven = None, False

    def accepted(self) -> None:
        """End the trouble and start the waiting times anew; nothing else does."""
        self.works()
        self.usable, self.attempts = True, 0

    def hurry(self, now: float) -> None:
        """Allow the next attempt at once."""
        self.not_before = min(self.not_before, now)

    def _wait(self, error: ForwarderError) -> float:
        return self._backoff.delay(
            self.attempts, self._rng, retry_after=self._asked(error), slow=self.needs_operator
        )

    def _asked(self, error: ForwarderError) -> float | None:
        asked = error.retry_after if isinstance(error, TransientError) else None
        return None if asked is None else min(max(0.0, asked), self._longest_wait)


def worst(conditions: Sequence[Condition]) -> ForwarderError | None:
    """Return the trouble to show: what needs a person before what will pass."""
    troubled = [one for one in conditions if one.trouble is not None]
    return min(troubled, key=lambda one: not one.needs_operator).trouble if troubled else None
