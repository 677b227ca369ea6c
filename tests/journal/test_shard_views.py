"""Several shards are read as one journal: counts are added up, and each stream asks its shard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from forwarder.core.contracts import Lost, StreamKey
from forwarder.core.errors import AbsentError, StateError
from forwarder.core.journal import OPEN, Keeping
from forwarder.core.telemetry import ignore
from forwarder.journal.sqlite import SqliteJournal
from forwarder.runtime.shards import ShardViews
from tests.journal.conftest import HOUR_US, KEY, NOON_US, SetClock, addition, records

OTHER = StreamKey("b" * 32, KEY.stream)
ROWS = records(NOON_US, NOON_US + 1, NOON_US + 2)


@pytest.fixture
async def shards(tmp_path: Path, clock: SetClock) -> AsyncIterator[dict[int, SqliteJournal]]:
    """Return shard 0 with two rows of ``KEY``, and shard 1 with three of ``OTHER``."""
    keeping = Keeping(2**30, HOUR_US)
    opened = {
        shard: await SqliteJournal.open(tmp_path / str(shard), keeping, clock=clock, emit=ignore)
        for shard in range(2)
    }
    for journal in opened.values():
        await journal.sink_queue("siem")
    await opened[0].stream_log(KEY).append(addition(ROWS[:2]))
    await opened[1].stream_log(OTHER).append(addition(ROWS))
    yield opened
    for journal in opened.values():
        await journal.aclose()


@pytest.fixture
def view(shards: dict[int, SqliteJournal]) -> ShardViews:
    return ShardViews(shards, {KEY.account_id: 0, OTHER.account_id: 1})


async def test_a_sink_waits_for_the_rows_of_all_shards(view: ShardViews) -> None:
    (sink,) = await view.sinks()
    lanes = await view.lanes()

    assert ("siem", 5) == (sink.name, sink.backlog)
    assert [["siem"]] == [list(lane.sinks) for lane in lanes]
    assert [2, 3] == sorted(place.backlog for place in await view.places())


async def test_a_question_about_a_stream_goes_to_its_shard(view: ShardViews) -> None:
    found = [(await view.judge(key, ROWS, {}, ["siem"]))["siem"] for key in (KEY, OTHER)]

    assert [(2, 1), (3, 0)] == [(one.waiting, one.missing) for one in found]
    assert {KEY, OTHER} == {StreamKey(one.account_id, one.stream) for one in await view.cursors()}


async def test_gaps_of_all_shards_are_counted_and_listed_by_their_beginning(
    shards: dict[int, SqliteJournal], view: ShardViews
) -> None:
    for shard, key, seen_us in ((1, OTHER, NOON_US + 1), (0, KEY, NOON_US + 2)):
        lost = [Lost("instant_unreadable", 10 + shard, 20)]
        page = replace(addition([]), lost=lost, seen_us=seen_us)
        await shards[shard].stream_log(key).append(page)
    count = await view.count_gaps()

    assert (2, 2) == (count.total, count.open)
    assert [11, 10] == [gap.since_us for gap in await view.gaps()]
    assert 1 == len(await view.latest_gaps(1))


async def test_a_lane_is_open_until_it_is_over_in_every_shard(
    shards: dict[int, SqliteJournal], view: ShardViews
) -> None:
    lane = "backfill:1"
    for journal in shards.values():
        await journal.open_backfill(lane, {}, ["siem"])
    states = list[str]()
    for journal in shards.values():
        await journal.stop_lane(lane)
        await journal.cancel_lane(lane)
        states += [one.state for one in await view.lanes() if one.name == lane]

    assert OPEN == states[0] != states[1]


async def test_an_offset_alone_names_no_page(view: ShardViews) -> None:
    with pytest.raises(StateError):
        await view.read("live", 1, 10)


async def test_a_sink_that_one_shard_does_not_know_yet_is_a_sink(
    shards: dict[int, SqliteJournal], view: ShardViews
) -> None:
    await shards[0].sink_queue("young")

    assert [] == list(await view.letters(sink="young"))
    with pytest.raises(AbsentError):
        await view.letters(sink="nobody")
