"""All lanes of one sink, in the order in which they are served: live first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from forwarder.core.log import Progress
from forwarder.delivery.acks import Ranges
from forwarder.delivery.events import LaneFinished
from forwarder.delivery.lane_reader import LaneReader
from forwarder.delivery.parcels import Parcel
from forwarder.delivery.wiring import Wiring

_PATIENT_AFTER = 3
_LONGEST_PAUSE = 0.2


class Lanes:
    """Knows what to read next, what to send next, and waits for rows where there are none.

    ``done`` is told which offsets of a lane are done without a write, ``gone`` which lane was
    cancelled, ``woken`` that a wait has ended.
    """

    def __init__(
        self,
        wiring: Wiring,
        *,
        done: Callable[[LaneReader, Ranges], None],
        gone: Callable[[str], None],
        woken: Callable[[], None],
    ) -> None:
        """Know no lane yet."""
        self._wiring = wiring
        self._done = done
        self._gone = gone
        self._woken = woken
        self._ended: set[str] = set()
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self.stale = True
        self.readers: list[LaneReader] = []

    def knows(self, reader: LaneReader) -> bool:
        """Say whether a lane still exists: a cancelled one is no longer acknowledged."""
        return reader in self.readers

    @property
    def suspicious(self) -> bool:
        """Say whether refused events wait somewhere that may not become dead letters yet."""
        return any(reader.suspicious for reader in self.readers)

    def next_read(
        self, now: float, *, again: bool, suspects: bool
    ) -> tuple[str, Coroutine[Any, Any, None]] | None:
        """Return the name of what is to be read next, and the reading, not yet started.

        ``again`` allows to load parcels whose sending failed, ``suspects`` those of suspects in
        their turn. A lane is read only when those before it are dry.
        """
        if self.stale:
            return "lanes", self.refresh()
        for reader in self.readers:
            parcel = reader.next_to_load(now, suspects=suspects) if again else None
            if parcel is not None:
                return f"{reader.name} again", self._load(reader, parcel)
            if reader.wants_more:
                return reader.name, self._fill(reader)
            if not (reader.caught_up or reader.read_out):
                return None
        return None

    async def refresh(self) -> None:
        """Ask which lanes there are."""
        self.stale = False
        known = {reader.name: reader for reader in self.readers}
        try:
            lanes = await self._wiring.queue.lanes()
        except BaseException:
            self.stale = True
            raise
        self.readers = [known.get(lane.name) or LaneReader(lane, self._wiring) for lane in lanes]
        for reader, lane in zip(self.readers, lanes, strict=True):
            reader.limit_to(lane.end_offset)
        for name in known.keys() - {lane.name for lane in lanes}:
            self._gone(name)
            if name in self._waiting:
                self._waiting.pop(name).cancel()

    async def _fill(self, reader: LaneReader) -> None:
        self._done(reader, await reader.fill())

    async def _load(self, reader: LaneReader, parcel: Parcel) -> None:
        if not await reader.load(parcel):
            reader.again.remove(parcel)
            self._done(reader, parcel.ranges)

    def next_parcel(
        self, now: float, max_bytes: int, *, suspects: bool
    ) -> tuple[LaneReader, Parcel] | None:
        """Return what may be sent now; None too while a lane must read what comes before."""
        for reader in self.readers:
            parcel = reader.next_parcel(now, max_bytes, suspects=suspects)
            if parcel is not None:
                return reader, parcel
            if reader.next_to_load(now, suspects=suspects) is not None:
                return None
        return None

    def next_moments(self) -> list[float]:
        """Return the moments at which something that rests now may go out."""
        moments = [reader.next_moment() for reader in self.readers]
        return [moment for moment in moments if moment is not None]

    def oldest_seen_us(self) -> int | None:
        """Return when the oldest event that waits here was first seen."""
        seen = [reader.oldest_seen_us() for reader in self.readers]
        return min((one for one in seen if one is not None), default=None)

    def listen(self) -> None:
        """Wait for rows in every lane that was read to its present end."""
        for reader in self.readers:
            if reader.caught_up and not reader.read_out and reader.name not in self._waiting:
                name = f"waiting for rows in {reader.name}"
                task = asyncio.create_task(self._wait(reader), name=name)
                self._waiting[reader.name] = task
                # A change between the last look and the start of this wait would go unheard.
                self.stale = True

    async def _wait(self, reader: LaneReader) -> None:
        reader.fruitless += 1
        if reader.fruitless > _PATIENT_AFTER:
            await self._wiring.clock.sleep(_LONGEST_PAUSE)
        try:
            await self._wiring.queue.wait(reader.name, reader.position)
        except Exception:  # noqa: BLE001 - the next read meets the same trouble and reports it
            await self._wiring.clock.sleep(1.0)
        del self._waiting[reader.name]
        reader.caught_up = False
        self._woken()

    def note_ends(self, stored: Mapping[str, Progress]) -> None:
        """Report lanes whose last progress is stored, and ask anew which lanes there are."""
        for reader in self.readers:
            progress = stored.get(reader.name)
            if progress is None or not reader.ended or reader.name in self._ended:
                continue
            if progress.prefix >= reader.done.prefix:
                self._ended.add(reader.name)
                self._wiring.emit(LaneFinished(self._wiring.name, reader.name))
                self.stale = True

    @property
    def dry(self) -> bool:
        """Say whether everything that is stored has been read and handed over to be written."""
        return not self.stale and all(reader.dry for reader in self.readers)

    def hurry(self) -> None:
        """Look for rows once more, and wait for nothing that could join them in a batch."""
        self.stale = True
        for reader in self.readers:
            reader.hurry()

    def stop(self) -> None:
        """Wait no longer."""
        for task in self._waiting.values():
            task.cancel()
        self._waiting.clear()
