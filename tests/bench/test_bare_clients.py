"""A bare client sends exactly what was recorded, as the destination understands it."""

from __future__ import annotations

import asyncio
import gzip
from asyncio import TaskGroup
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.clients import connect
from bench.floors import Lane
from bench.processes import helper
from bench.recordings import EVENTS, Recording, of_pieces

UNITS: dict[str, list[Any]] = {
    "hec": [b'{"event":{"n":%d}}' % number for number in range(10)],
    "bulk": [b'{"create":{}}\n{"n":%d}\n' % number for number in range(10)],
    "otlp": [b"\x0a\x02%d" % number for number in range(10)],
    "sentinel": [b'[{"n":%d}]' % number for number in range(10)],
    "lake": [b'{"n":%d}\n' % number for number in range(10)],
    "tcp": [b"11 <134>1 - - -"] * 10,
    "relp": [[b"<134>1 - %d\n- two lines" % number] for number in range(10)],
}


@asynccontextmanager
async def _sending(kind: str, recording: Recording, folder: Path) -> AsyncIterator[Lane]:
    with helper("bench.destinations", kind, str(folder), str(folder)) as port:
        async with AsyncExitStack() as stack, TaskGroup() as tasks:
            push = await connect(kind, port, folder, stack)
            yield Lane(kind, push, recording, tasks)


async def _kept(folder: Path, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
    """Return what the destination kept, once that is enough."""
    while not enough(pieces := _pieces(folder)):  # noqa: ASYNC110 - another process writes
        await asyncio.sleep(0.01)
    return pieces


def _pieces(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("kind", ["hec", "bulk", "otlp", "sentinel", "lake"])
async def test_bodies_go_compressed_and_whole(kind: str, tmp_path: Path) -> None:
    recording = Recording([(EVENTS / 10, body) for body in UNITS[kind]])
    async with _sending(kind, recording, tmp_path) as lane:
        await lane.carry(EVENTS)

    assert sorted(UNITS[kind]) == sorted(map(gzip.decompress, _pieces(tmp_path)))


async def test_a_stream_goes_as_it_is(tmp_path: Path) -> None:
    recording = Recording([(EVENTS / 10, piece) for piece in UNITS["tcp"]])
    expected = b"".join(UNITS["tcp"][:5])
    async with _sending("tcp", recording, tmp_path) as lane:
        await lane.carry(EVENTS // 2)
        pieces = await _kept(tmp_path, lambda pieces: len(b"".join(pieces)) >= len(expected))

    assert expected == b"".join(pieces)


async def test_relp_messages_are_numbered_and_acknowledged(tmp_path: Path) -> None:
    """The block ends only when every message has its answer."""
    recording = Recording([(EVENTS / 10, messages) for messages in UNITS["relp"]])
    async with _sending("relp", recording, tmp_path) as lane:
        await lane.carry(EVENTS)

    assert UNITS["relp"] == [messages for _, messages in of_pieces("relp", _pieces(tmp_path)).units]


async def test_a_lane_sends_as_many_events_as_it_was_told(tmp_path: Path) -> None:
    """Over many pages, whatever the size of a unit; half a unit more at most."""
    recording = Recording([(300.0, UNITS["hec"][0])])
    async with _sending("hec", recording, tmp_path) as lane:
        for _ in range(9):
            await lane.carry(1000)

    assert len(_pieces(tmp_path)) == 9000 // 300
