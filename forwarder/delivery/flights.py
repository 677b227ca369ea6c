"""A write under way: what it carries, for which lane, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass

from forwarder.core.contracts import Batch
from forwarder.delivery.calls import Call
from forwarder.delivery.lane_reader import LaneReader
from forwarder.delivery.parcels import Manifest, Parcel


@dataclass(slots=True, eq=False)
class Flight:
    """One write under way.

    ``fills_window`` says that meanwhile no more writes were allowed: only then has its success
    shown that the destination takes as many at once. ``asked`` says that the sink got to see it.
    """

    reader: LaneReader
    parcel: Parcel
    batch: Batch
    manifest: Manifest
    call: Call
    fills_window: bool = False
    asked: bool = False
    ended_us: int = 0
    seconds: float = 0.0
