"""Several shards of a journal, read as one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from forwarder.core.contracts import Record, StoredPage, StreamKey, Window
from forwarder.core.errors import AbsentError, StateError
from forwarder.core.journal import (
    OPEN,
    Cursor,
    Gap,
    GapCount,
    JournalView,
    LaneRecord,
    LetterGroup,
    Passed,
    SinkPlace,
    SinkRecord,
    StoredLetter,
    Verdict,
)
from forwarder.core.log import KeySet

T = TypeVar("T")


class ShardViews:
    """Reads several shards as one journal; see ``core.journal.JournalView``.

    What counts is added up, what lists is joined. A question about a stream goes to its shard.
    """

    def __init__(self, views: Mapping[int, JournalView], placed: Mapping[str, int]) -> None:
        """Ask ``views``, by shard; ``placed`` is the shard of each account."""
        self._views = views
        self._placed = placed

    async def aclose(self) -> None:
        """Give all connections back; idempotent."""
        await self._each(lambda view: view.aclose())

    async def sinks(self) -> Sequence[SinkRecord]:
        """See ``JournalView``."""
        found: dict[str, SinkRecord] = {}
        for one in await self._joined(lambda view: view.sinks()):
            have = found.get(one.name)
            found[one.name] = one if have is None else _both_sinks(have, one)
        return list(found.values())

    async def places(self) -> Sequence[SinkPlace]:
        """See ``JournalView``; a lane has a place in each shard."""
        return await self._joined(lambda view: view.places())

    async def lanes(self) -> Sequence[LaneRecord]:
        """See ``JournalView``; offsets are those of the first shard that has the lane."""
        found: dict[str, LaneRecord] = {}
        for one in await self._joined(lambda view: view.lanes()):
            have = found.get(one.name)
            found[one.name] = one if have is None else _both_lanes(have, one)
        return sorted(found.values(), key=lambda lane: lane.created_us)

    async def cursors(self) -> Sequence[Cursor]:
        """See ``JournalView``."""
        return await self._joined(lambda view: view.cursors())

    async def gaps(self) -> Sequence[Gap]:
        """See ``JournalView``."""
        found = await self._joined(lambda view: view.gaps())
        return sorted(found, key=lambda gap: gap.opened_us)

    async def latest_gaps(self, limit: int) -> Sequence[Gap]:
        """See ``JournalView``."""
        found = await self._joined(lambda view: view.latest_gaps(limit))
        return sorted(found, key=lambda gap: (gap.closed_us is not None, -(gap.closed_us or 0)))[
            :limit
        ]

    async def count_gaps(self) -> GapCount:
        """See ``JournalView``."""
        counts = await self._each(lambda view: view.count_gaps())
        return GapCount(sum(one.total for one in counts), sum(one.open for one in counts))

    async def letters(
        self, *, sink: str | None = None, letter_id: int | None = None, limit: int | None = None
    ) -> Sequence[StoredLetter]:
        """See ``JournalView``; a number alone names a letter of each shard."""
        found, absent = list[StoredLetter](), list[AbsentError]()
        for shard, view in self._views.items():
            try:
                letters = await view.letters(sink=sink, letter_id=letter_id, limit=limit)
                found += (replace(letter, shard=shard) for letter in letters)
            except AbsentError as error:  # a shard that nobody has worked on has no sinks
                absent.append(error)
        if len(absent) == len(self._views):
            raise absent[0]
        return sorted(found, key=lambda letter: letter.at_us)[:limit]

    async def summarise_letters(self, limit: int) -> Sequence[LetterGroup]:
        """See ``JournalView``."""
        found: dict[tuple[str, str], LetterGroup] = {}
        for one in await self._joined(lambda view: view.summarise_letters(limit)):
            have = found.get((one.sink, one.reason), replace(one, events=0))
            found[one.sink, one.reason] = replace(
                one,
                events=have.events + one.events,
                latest_us=max(have.latest_us, one.latest_us),
            )
        return sorted(found.values(), key=lambda group: -group.latest_us)[:limit]

    async def count_letters(self) -> Mapping[str, int]:
        """See ``JournalView``."""
        counted = Counter[str]()
        for one in await self._each(lambda view: view.count_letters()):
            counted.update(one)
        return counted

    async def passed_over(self, sink: str) -> Sequence[Passed]:
        """See ``JournalView``."""
        return await self._joined(lambda view: view.passed_over(sink))

    async def read(self, lane: str, offset: int, max_rows: int) -> Sequence[StoredPage]:
        """Raise ``StateError``: an offset belongs to one shard."""
        raise StateError(f"{max_rows} rows from offset {offset} of lane {lane}: of which shard?")

    async def key_sets(self, key: StreamKey) -> Sequence[KeySet]:
        """See ``JournalView``."""
        return await self._of(key.account_id).key_sets(key)

    async def recall(self, scope: str, key: str) -> Any | None:
        """See ``JournalView``."""
        return await self._of(scope.partition("/")[0]).recall(scope, key)

    async def pages(self, key: StreamKey, window: Window, start: int) -> list[StoredPage] | None:
        """See ``JournalView``."""
        return await self._of(key.account_id).pages(key, window, start)

    async def judge(
        self,
        key: StreamKey,
        records: Sequence[Record],
        aliases: Mapping[int, Sequence[bytes]],
        sinks: Sequence[str],
        unread_us: int | None = None,
    ) -> Mapping[str, Verdict]:
        """See ``JournalView``."""
        view = self._of(key.account_id)
        return await view.judge(key, records, aliases, sinks, unread_us)

    def _of(self, account_id: str) -> JournalView:
        first = next(iter(self._views))
        return self._views[self._placed.get(account_id, first)]

    async def _each(self, question: Callable[[JournalView], Awaitable[T]]) -> list[T]:
        return list(await asyncio.gather(*(question(view) for view in self._views.values())))

    async def _joined(self, question: Callable[[JournalView], Awaitable[Sequence[T]]]) -> list[T]:
        return [one for answer in await self._each(question) for one in answer]


def _both_sinks(one: SinkRecord, other: SinkRecord) -> SinkRecord:
    return SinkRecord(
        one.name,
        min(one.created_us, other.created_us),
        one.backlog + other.backlog,
        one.dead_letters + other.dead_letters,
        list(dict.fromkeys([*one.lanes, *other.lanes])),
    )


def _both_lanes(one: LaneRecord, other: LaneRecord) -> LaneRecord:
    # Not over before it is over in every shard.
    state = OPEN if OPEN in {one.state, other.state} else one.state
    sinks = list(dict.fromkeys([*one.sinks, *other.sinks]))
    return replace(one, state=state, sinks=sinks)
