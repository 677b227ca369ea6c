"""What becomes of a parcel after a write: done, dead, or again. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from forwarder.core.contracts import Batch, WriteResult
from forwarder.core.errors import BatchRefusedError, BatchTooLargeError, ForwarderError
from forwarder.core.log import DeadLetter
from forwarder.delivery.acks import Ranges, contains, points, without
from forwarder.delivery.parcels import Manifest, Parcel, halves


@dataclass(frozen=True, slots=True)
class Settlement:
    """The verdict on one write.

    ``done`` are the offsets to acknowledge, those of ``rejected`` among them; ``again`` is what
    must be sent once more; ``deferred`` the offsets in it that the destination put off by name.
    """

    done: Ranges = ()
    accepted: int = 0
    rejected: tuple[DeadLetter, ...] = ()
    deferred: frozenset[int] = frozenset()
    again: tuple[Parcel, ...] = ()

    def sparing(self, parcel: Parcel) -> Settlement:
        """Return the same verdict with the rejected events kept, to be sent once more."""
        offsets = [letter.offset for letter in self.rejected]
        spared = Parcel(
            points(offsets), len(offsets), parcel.seen_us, (), parcel.attempts + 1, suspect=True
        )
        return replace(
            self, done=without(self.done, offsets), rejected=(), again=(*self.again, spared)
        )


def settle(
    parcel: Parcel, batch: Batch, manifest: Manifest, outcome: WriteResult | ForwarderError
) -> Settlement:
    """Decide about a parcel by what the sink answered."""
    match outcome:
        case WriteResult(rejected=(), deferred=deferred) if not deferred:
            return Settlement(parcel.ranges, manifest.count)
        case WriteResult():
            return _sort_out(parcel, manifest, outcome)
        case BatchRefusedError() if manifest.count == 1:
            return _reject(parcel, DeadLetter(manifest.first_offset, str(outcome)))
        case BatchTooLargeError() if manifest.count == 1:
            return _reject(parcel, DeadLetter(manifest.first_offset, str(outcome), manifest.size))
        case BatchRefusedError() | BatchTooLargeError():
            return Settlement(again=tuple(halves(parcel, batch.events, manifest)))
        case _:
            bare = replace(parcel, events=(), attempts=parcel.attempts + 1)
            return Settlement(again=(bare,))


def _sort_out(parcel: Parcel, manifest: Manifest, result: WriteResult) -> Settlement:
    """Follow a result event by event; offsets that were not in the batch are ignored."""
    reasons = {
        rejection.offset: rejection.reason
        for rejection in result.rejected
        if contains(parcel.ranges, rejection.offset)
    }
    deferred = frozenset(
        offset
        for offset in result.deferred
        if contains(parcel.ranges, offset) and offset not in reasons
    )
    later = Parcel(
        points(deferred), len(deferred), parcel.seen_us, (), parcel.attempts + 1, deferred=True
    )
    return Settlement(
        done=without(parcel.ranges, deferred),
        accepted=max(0, manifest.count - len(reasons) - len(deferred)),
        rejected=tuple(DeadLetter(offset, reasons[offset]) for offset in sorted(reasons)),
        deferred=deferred,
        again=(later,) if deferred else (),
    )


def _reject(parcel: Parcel, letter: DeadLetter) -> Settlement:
    return Settlement(done=parcel.ranges, rejected=(letter,))
