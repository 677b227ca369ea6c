"""The file sink: what it has acknowledged is on the disk, in whole lines, once."""

import asyncio
import gzip
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forwarder.core.contracts import BatchEvent
from forwarder.core.errors import ConfigError, NeedsOperatorError, TransientError
from forwarder.core.timing import SystemClock
from forwarder.sinks.file import (
    Calls,
    FileConfig,
    FileSink,
    RotatingFile,
    older_files,
    older_name,
    to_remove,
)
from forwarder.testing.fake_sinks import make_batch, make_event, sink_context
from forwarder.testing.sink_contract import OutageContract
from tests.sinks.file.disk import Disk


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


class TestFile(OutageContract):
    @pytest.fixture
    def destination(self, disk: Disk) -> Disk:
        return disk


class Hand(SystemClock):
    """A clock whose hand the test moves, in microseconds."""

    us = 1_767_225_600_000_000

    def now_us(self) -> int:
        return self.us


def bodies(*batches: range) -> list[bytes]:
    return [make_event(offset).body for batch in batches for offset in batch]


def event_lines(events: list[BatchEvent]) -> bytes:
    return b"".join(event.body + b"\n" for event in events)


async def test_batches_that_come_together_share_an_fsync(disk: Disk) -> None:
    sink = disk.sink()
    await asyncio.gather(*(sink.write(make_batch(2, first_offset=10 * i)) for i in range(20)))
    await sink.aclose()

    assert len(disk.lines()) == 40
    assert disk.fsyncs <= 3


@pytest.mark.parametrize("room", [0, 1, 60, 200])
async def test_a_full_disk_leaves_no_half_line_and_takes_all_when_there_is_room(
    disk: Disk, room: int
) -> None:
    sink = disk.sink()
    await sink.write(make_batch(2))
    disk.room = room
    with pytest.raises(TransientError) as caught:
        await sink.write(make_batch(50, first_offset=2))
    while_full = disk.lines()
    disk.room = None
    await sink.open()
    await sink.write(make_batch(50, first_offset=2))
    await sink.aclose()

    assert not isinstance(caught.value, NeedsOperatorError)
    assert while_full == bodies(range(2))
    assert disk.lines() == bodies(range(52))


async def test_what_could_not_be_made_durable_is_taken_back(disk: Disk) -> None:
    sink = disk.sink()
    await sink.write(make_batch(1))
    disk.fail_fsync = True
    with pytest.raises(TransientError):
        await sink.write(make_batch(1, first_offset=1))
    disk.fail_fsync = False
    await sink.write(make_batch(1, first_offset=1))
    await sink.aclose()

    assert disk.lines() == bodies(range(2))


@given(cut=st.integers(0, 400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_a_crash_in_the_middle_of_a_write_leaves_only_whole_lines(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "crashed.ndjson"
    whole = event_lines([make_event(offset) for offset in range(5)])
    path.write_bytes(whole[:cut])
    file = RotatingFile(FileConfig(path=path), SystemClock(), Calls())
    file.check()
    file.append([make_event(9).body + b"\n"])
    file.close()

    kept = whole[: whole[:cut].rfind(b"\n") + 1]
    assert path.read_bytes() == kept + make_event(9).body + b"\n"


async def test_a_very_long_half_line_is_cut_off_too(disk: Disk) -> None:
    disk.path.write_bytes(b"whole\n" + b"x" * 200_000)
    sink = disk.sink()
    await sink.open()
    await sink.aclose()

    assert disk.path.read_bytes() == b"whole\n"


async def test_opening_makes_no_file(disk: Disk) -> None:
    sink = disk.sink()
    await sink.open()
    await sink.aclose()

    assert not disk.path.exists()


async def test_the_file_is_for_its_owner_alone(disk: Disk) -> None:
    sink = disk.sink()
    await sink.write(make_batch(1))
    await sink.aclose()

    assert disk.path.stat().st_mode & 0o777 == 0o600


def older(disk: Disk) -> list[Path]:
    return sorted(path for path in disk.path.parent.iterdir() if path != disk.path)


async def test_a_large_file_gives_way_and_is_compressed(disk: Disk) -> None:
    sink = disk.sink(max_size=100)
    for first in (0, 10):
        await sink.write(make_batch(3, first_offset=first))
    await sink.aclose()

    (put_away,) = older(disk)
    assert put_away.name.endswith("Z.ndjson.gz")
    assert gzip.decompress(put_away.read_bytes()).splitlines() == bodies(range(3))
    assert disk.lines() == bodies(range(10, 13))


def rotating(disk: Disk, clock: Hand, **more: object) -> RotatingFile:
    return RotatingFile(FileConfig.model_validate({"path": disk.path, **more}), clock, Calls())


def test_an_old_file_gives_way_and_an_empty_one_does_not(disk: Disk) -> None:
    clock = Hand()
    file = rotating(disk, clock, max_age="1h")
    assert not file.append([b"one\n"])
    clock.us += 3_599_000_000
    assert not file.append([b"two\n"])
    clock.us += 1_000_000
    assert file.append([b"three\n"])
    file.close()

    assert disk.lines() == [b"three"]
    assert [path.read_bytes() for path in older(disk)] == [b"one\ntwo\n"]


def test_zero_means_never(disk: Disk) -> None:
    clock = Hand()
    file = rotating(disk, clock, max_age=0, max_size=0)
    file.append([b"one\n"])
    clock.us += 10**15
    file.append([b"two\n"])
    file.close()

    assert disk.lines() == [b"one", b"two"]


def test_tidying_finishes_what_a_crash_interrupted_and_keeps_the_newest(disk: Disk) -> None:
    clock = Hand()
    file = rotating(disk, clock, max_size=1, keep=2)
    for text in (b"1\n", b"2\n", b"3\n", b"4\n"):
        file.append([text])
        clock.us += 1_000_000
    half = older(disk)[0].with_name(older(disk)[0].name + ".gz.part")
    half.write_bytes(b"half")
    stranger = disk.path.with_name("access-mine.ndjson")
    stranger.write_bytes(b"leave me")
    file.tidy()
    file.close()

    assert stranger.read_bytes() == b"leave me"
    kept = [gzip.decompress(path.read_bytes()) for path in older(disk) if path != stranger]
    assert kept == [b"2\n", b"3\n"]


def test_a_file_that_somebody_moved_away_is_begun_anew(disk: Disk) -> None:
    file = rotating(disk, Hand())
    file.append([b"one\n"])
    disk.path.rename(disk.path.with_name("moved"))
    file.append([b"two\n"])
    file.close()

    assert disk.lines() == [b"two"]


async def test_two_writers_of_one_file_are_one_too_many(disk: Disk) -> None:
    first, second = disk.sink(), disk.sink()
    await first.write(make_batch(1))
    with pytest.raises(NeedsOperatorError, match="cannot be written"):
        await second.open()
    await first.aclose()
    await second.open()
    await second.aclose()


@pytest.mark.parametrize("name", ["missing/access.ndjson", ".", "plain/access.ndjson"])
async def test_a_path_that_cannot_be_a_file_asks_for_a_person(tmp_path: Path, name: str) -> None:
    (tmp_path / "plain").write_text("a file, no folder")
    disk = Disk(tmp_path)
    disk.path = tmp_path / name
    sink = disk.sink()
    with pytest.raises(NeedsOperatorError) as caught:
        await sink.open()
    await sink.aclose()

    assert caught.value.hint


async def test_trouble_with_older_files_is_noted_and_stops_nothing(disk: Disk) -> None:
    sink = disk.sink(max_size=1)
    await sink.write(make_batch(1))
    await sink.write(make_batch(1, first_offset=1))
    await sink.aclose()
    for path in older(disk):
        path.unlink()
    name = older_name(disk.path, 1_767_225_600_000_000)
    os.mkfifo(disk.path.with_name(f"{name}.gz"))
    (disk.path.with_name(name)).mkdir()
    sink = disk.sink()
    await sink.write(make_batch(1, first_offset=2))
    notes: list[str] = []
    for _ in range(200):
        notes += (await sink.write(make_batch(1, first_offset=3))).notes
        await asyncio.sleep(0 if notes else 0.01)
    await sink.aclose()

    assert [note.partition(":")[0] for note in notes] == ["older_files"]


def test_names_sort_by_time_and_belong_to_one_file_only() -> None:
    path = Path("/logs/access.ndjson")
    names = [older_name(path, us) for us in (1_767_225_600_000_000, 1_767_225_600_000_001)]

    assert names == sorted(names)
    assert names[0] == "access-20260101T000000.000000Z.ndjson"
    assert older_files(path, [*names, "access-mine.ndjson", f"x{names[0]}"]) == names
    assert older_files(path, [f"{names[0]}.gz", names[1]], suffix=".gz") == [f"{names[0]}.gz"]


@given(st.lists(st.integers(0, 99), unique=True).map(sorted), st.integers(1, 10) | st.none())
def test_the_newest_are_kept(numbers: list[int], keep: int | None) -> None:
    names = [f"{number:02}" for number in numbers]
    gone = to_remove(names, keep)

    assert [*gone, *names[len(gone) :]] == names
    assert keep is None or len(names) - len(gone) <= keep


async def test_replicas_of_one_journal_write_files_of_their_own(tmp_path: Path) -> None:
    config = FileConfig(path=tmp_path / "access-{replica}.ndjson")
    for replica in ("host-1-0", "host-1-1"):
        sink = FileSink(config, replace(sink_context(), replica=replica))
        await sink.write(make_batch(1))
        await sink.aclose()
    written = await asyncio.to_thread(lambda: sorted(file.name for file in tmp_path.iterdir()))

    assert ["access-host-1-0.ndjson", "access-host-1-1.ndjson"] == written


def test_replicas_of_one_journal_refuse_a_file_that_they_would_share(tmp_path: Path) -> None:
    config = FileConfig(path=tmp_path / "access.ndjson")

    with pytest.raises(ConfigError, match="would share the file"):
        FileSink(config, replace(sink_context(), replica="host-1"))
