"""How fast one sink may be written to: may I write, how many, how large, until when.

Pure but for chance. What is known of the destination is here and nowhere else: its health, how
many writes it takes at once, how large they may be, and whether it refuses everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from forwarder.core.contracts import BatchLimits, WriteResult
from forwarder.core.errors import (
    ConfigError,
    ForwarderError,
    NeedsOperatorError,
    StateError,
    TransientError,
)
from forwarder.core.timing import Backoff

T = TypeVar("T")
_CAP_STEPS = 256
"""After a batch was too large, each accepted one lets the next grow by one part in so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOptions:
    """Settings of one sink's delivery; None leaves the sink's own limit as it is.

    ``max_wait``, ``timeout``, ``open_timeout``, ``close_timeout`` and ``longest_wait`` are
    seconds. ``longest_wait`` bounds what a destination may ask for in ``Retry-After``.
    ``max_in_flight`` is divided among the ``shards`` of the journal, each of which delivers apart.
    ``breaker`` is the number of refusals in a row for one reason that holds the sink.
    """

    max_events: int | None = None
    max_bytes: int | None = None
    max_wait: float | None = None
    max_in_flight: int | None = None
    shards: int = 1
    timeout: float | None = None
    backoff: Backoff = field(default_factory=Backoff)
    paused: bool = False
    breaker: int = 50
    open_timeout: float = 60.0
    close_timeout: float = 5.0
    longest_wait: float = 3600.0

    def limits(self, wanted: BatchLimits) -> BatchLimits:
        """Return the sink's own limits, overridden by what was set."""
        return BatchLimits(
            max_events=max(1, _chosen(self.max_events, wanted.max_events)),
            max_bytes=max(1, _chosen(self.max_bytes, wanted.max_bytes)),
            max_wait=_chosen(self.max_wait, wanted.max_wait),
            max_in_flight=max(1, _chosen(self.max_in_flight, wanted.max_in_flight) // self.shards),
            write_timeout=_chosen(self.timeout, wanted.write_timeout),
            max_event_bytes=wanted.max_event_bytes,
        )

    def bounded(self, asked: float | None) -> float | None:
        """Return the seconds that a destination asked for, at most ``longest_wait``."""
        return None if asked is None else min(max(0.0, asked), self.longest_wait)


def _chosen(own: T | None, given: T) -> T:
    return given if own is None else own


class Health:
    """Whether one sink, or the journal as its consumer sees it, works; and when to retry.

    It is ``usable`` until something fails, and in ``trouble`` from then until something succeeds.
    While it is in trouble but usable again, it is being probed.
    """

    def __init__(self, options: DeliveryOptions, rng: Random, *, usable: bool = True) -> None:
        """Begin without trouble."""
        self._options = options
        self._rng = rng
        self._unproven = False
        self.usable = usable
        self.trouble: ForwarderError | None = None
        self.attempts = 0
        self.not_before = 0.0

    @property
    def needs_operator(self) -> bool:
        """Return True if only a person can fix it."""
        return isinstance(self.trouble, NeedsOperatorError | ConfigError | StateError)

    def failed(self, error: ForwarderError, now: float, *, writing: bool = True) -> None:
        """Stop using it until the waiting time is over.

        A failed write is made good by a write alone: a destination that lets everybody in and takes
        nothing does not work.
        """
        self._unproven = self._unproven or writing
        self.usable, self.trouble = False, error
        self.attempts += 1
        self.not_before = now + self._wait(error)

    def straggled(self, error: ForwarderError, now: float) -> None:
        """Record a write that was under way when another one failed.

        It is the same failure, but it may lengthen the wait or make it an operator's fault.
        """
        if isinstance(error, NeedsOperatorError) and not self.needs_operator:
            self.trouble = error
            self.not_before = max(self.not_before, now + self._wait(error))
        elif (asked := self._asked(error)) is not None:
            self.not_before = max(self.not_before, now + asked)

    def opened(self) -> None:
        """Use it again; the trouble is over unless only a write can show that."""
        # Open never heals what a write broke: the destination would get attempt after attempt.
        self.usable = True
        if not self._unproven:
            self.trouble = None

    def works(self) -> None:
        """End the trouble; the count of attempts stays until something is accepted."""
        self.trouble, self._unproven = None, False

    def accepted(self) -> None:
        """End the trouble and restart the waiting times; nothing else restarts them."""
        self.works()
        self.usable, self.attempts = True, 0

    def took_some(self) -> None:
        """Restart the waiting times; the trouble may last."""
        self.attempts = 0

    def hurry(self, now: float) -> None:
        """Allow the next attempt at once."""
        self.not_before = min(self.not_before, now)

    def _wait(self, error: ForwarderError) -> float:
        return self._options.backoff.delay(
            self.attempts, self._rng, retry_after=self._asked(error), slow=self.needs_operator
        )

    def _asked(self, error: ForwarderError) -> float | None:
        return self._options.bounded(retry_after_of(error))


def worst(healths: Sequence[Health]) -> Health | None:
    """Return the one whose trouble to show: what needs a person before what will pass."""
    troubled = [one for one in healths if one.trouble is not None]
    return min(troubled, key=lambda one: not one.needs_operator) if troubled else None


def kind_of(error: ForwarderError) -> str:
    """Name a failure for metrics: operator, throttled or outage."""
    if isinstance(error, TransientError) and not isinstance(error, NeedsOperatorError):
        return "outage" if error.retry_after is None else "throttled"
    return "operator"


def hint_of(error: ForwarderError | None) -> str:
    """Return what a person should check, or an empty text."""
    return error.hint if isinstance(error, TransientError) else ""


def retry_after_of(error: ForwarderError) -> float | None:
    """Return the seconds that the other side asked for, None if it did not."""
    return error.retry_after if isinstance(error, TransientError) else None


class Window:
    """How many writes may be under way at once, between one and ``most``: found out, not set.

    Starts at one, doubles with each full round until the first throttle, then adds one with each
    full round; halves on trouble (AIMD, as TCP does).
    """

    def __init__(self, most: int) -> None:
        """Start at one."""
        self._most = max(1, most)
        self._size = 1.0
        self._doubling = True
        # Writes that were under way at the last halving: their answers say nothing new.
        self._deaf = 0

    @property
    def size(self) -> int:
        """Return how many writes may be under way."""
        return int(self._size)

    def succeeded(self, *, full: bool) -> None:
        """Count an accepted write; ``full``: the window was used up while it was under way."""
        self._deaf = max(0, self._deaf - 1)
        # Only a full window proves that the destination takes so many writes at once.
        if full:
            self._size = min(self._most, self._size + (1 if self._doubling else 1 / self._size))

    def throttled(self) -> bool:
        """Halve because the destination asked for less, and grow slowly from now on.

        The writes that were under way at that moment will say the same: they count once. Return
        True if this one counted.
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


@dataclass(frozen=True, slots=True)
class Breaker:
    """Tells a few bad events from a destination that refuses everything.

    Counts refusals in a row for one reason, and ten times as many for any: a reason may hold what
    differs from event to event. A write that had at least one event accepted ends the row.
    """

    most: int
    reason: str = ""
    row: int = 0
    any_row: int = 0

    @property
    def tripped(self) -> bool:
        """Return True if the row is too long; only an accepted event ends that."""
        return self.row >= self.most or self.any_row >= 10 * self.most

    def accepted(self) -> Breaker:
        """Return the breaker after the destination took at least one event."""
        return Breaker(self.most, self.reason)

    def refused(self, reasons: Iterable[str]) -> Breaker:
        """Return the breaker after these refusals, in order; once it trips it stays so."""
        now = self
        for one in reasons:
            if now.tripped:
                break
            row = now.row + 1 if one == now.reason else 1
            now = Breaker(self.most, one, row, now.any_row + 1)
        return now


@dataclass(frozen=True, slots=True)
class Pace:
    """What one write has shown about the destination.

    ``asked``: the sink got to see the batch. ``error``: the write failed, or, with ``kept``, why
    refused events may not become dead letters. ``result``: what the sink answered. ``too_large``:
    the bytes of several events that were too large together. ``attempts`` counts the writes of the
    events that were put off.
    """

    breaker: Breaker
    asked: bool
    accepted: int = 0
    deferred: bool = False
    attempts: int = 0
    result: WriteResult | None = None
    error: ForwarderError | None = None
    kept: bool = False
    too_large: int | None = None

    @property
    def retry_after(self) -> float | None:
        """Return the seconds that the destination asked for, None if it did not."""
        if self.error is not None:
            return retry_after_of(self.error)
        return self.result.retry_after if self.result else None


class Pacing:
    """What the writes so far allow the next one. The consumer asks it and reports to it."""

    def __init__(self, limits: BatchLimits, options: DeliveryOptions, rng: Random) -> None:
        """Begin with a sink that is not open yet."""
        self._limits = limits
        self._options = options
        self._rng = rng
        self._window = Window(limits.max_in_flight)
        self._started = self._in_flight = self._filled = 0
        self.health = Health(options, rng, usable=False)
        self.breaker = Breaker(options.breaker)
        self.max_bytes = limits.max_bytes
        self.eased_until = 0.0
        self.trusting = True
        """False while refused events are kept: then they are sent only when nothing else is."""

    @property
    def window(self) -> int:
        """Return how many writes may be under way at once."""
        return self._window.size

    @property
    def room(self) -> int:
        """Return how many more writes may start: one at a time while the sink is in trouble."""
        most = 1 if self.health.trouble is not None else self._window.size
        return most - self._in_flight

    def may_write(self, now: float) -> bool:
        """Return True if the sink is open and has not asked to ease off."""
        return self.health.usable and now >= self.eased_until

    def start(self) -> int:
        """Count a write that starts; return its number, for ``end``."""
        self._started += 1
        self._in_flight += 1
        if self._in_flight >= self._window.size:
            # This write and all those under way have seen a full window.
            self._filled = self._started
        return self._started

    def end(self) -> None:
        """Count a write that has ended, however it did."""
        self._in_flight -= 1

    def rest(self, pace: Pace) -> float:
        """Return the seconds for which events that were put off must rest."""
        asked = pace.result.retry_after if pace.result else None
        bounded = self._options.bounded(asked)
        return self._options.backoff.delay(pace.attempts, self._rng, retry_after=bounded)

    def learn(self, pace: Pace, number: int, now: float, *, suspicious: bool) -> bool:
        """Adapt to what write ``number`` has shown; return True if the window was throttled.

        ``suspicious``: refused events wait that may not become dead letters yet.
        """
        self.breaker = pace.breaker
        if pace.accepted:
            self.trusting = True
        if pace.error is not None:
            self.trusting = self.trusting and not pace.kept
            return self.failed(pace.error, now)
        if pace.too_large is not None:
            self.max_bytes = max(1, min(self.max_bytes, pace.too_large // 2))
        if not pace.asked:
            # Nothing was asked of the destination, so nothing is known of it.
            return False
        self._works(pace, suspicious=suspicious)
        return pace.result is not None and self._answered(pace, pace.result, number, now)

    def _works(self, pace: Pace, *, suspicious: bool) -> None:
        """End the trouble, since the destination answers, unless it refuses everything."""
        if not self.health.usable:
            return
        if pace.accepted:
            self.health.took_some()
        if not (self.breaker.tripped or suspicious):
            self.health.works()

    def _answered(self, pace: Pace, result: WriteResult, number: int, now: float) -> bool:
        if pace.accepted:
            more = self.max_bytes + max(1, self.max_bytes // _CAP_STEPS)
            self.max_bytes = min(self._limits.max_bytes, more)
        asked = self._options.bounded(result.retry_after)
        if asked is not None:
            self.eased_until = max(self.eased_until, now + asked)
        nothing_taken = pace.deferred and not pace.accepted
        if result.slow_down or asked is not None or nothing_taken:
            return self._window.throttled()
        self._window.succeeded(full=number <= self._filled)
        return False

    def failed(self, error: ForwarderError, now: float) -> bool:
        """Record a failure; return True if the window was throttled."""
        if not self.health.usable:
            self.health.straggled(error, now)
            return False
        self.health.failed(error, now)
        if retry_after_of(error) is not None:
            return self._window.throttled()
        self._window.failed()
        return False
