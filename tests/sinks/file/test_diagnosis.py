"""``check --live`` reports if a file can be written, and changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forwarder.sinks.file import diagnose
from forwarder.testing.fake_sinks import make_batch
from tests.sinks.file.disk import Disk


def test_a_file_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    found = diagnose(tmp_path / "x.ndjson")

    assert (found.level, found.text) == ("ok", "is not there yet and can be made")
    assert not list(tmp_path.iterdir())


def test_half_a_line_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    path.write_bytes(b"whole\nhal")

    assert diagnose(path).text == "can be written"
    assert path.read_bytes() == b"whole\nhal"


async def test_a_file_that_a_running_forwarder_writes_is_no_fault(disk: Disk) -> None:
    sink = disk.sink()
    await sink.write(make_batch(1))
    (beside,) = await disk.sink().diagnose()
    await sink.aclose()
    (after,) = await disk.sink().diagnose()

    assert (beside.level, "is being written" in beside.text) == ("ok", True)
    assert after.text == "can be written"


@pytest.mark.parametrize(
    ("name", "text"),
    [("folder", "is a folder"), ("none/x", "there is no folder"), ("pipe", "is no regular file")],
)
def test_what_cannot_be_a_file_of_lines_is_a_fault(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    found = diagnose(tmp_path / name)

    assert found.level == "fault"
    assert text in found.text
    assert found.hint


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)
