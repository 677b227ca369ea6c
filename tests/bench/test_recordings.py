"""What destinations keep becomes units with the right share of events."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.recordings import EVENTS, Recording, of_pieces


@given(bodies=st.lists(st.binary(min_size=1), min_size=1, max_size=20))
def test_bodies_share_the_events_by_size(bodies: list[bytes]) -> None:
    recording = of_pieces("hec", [gzip.compress(body) for body in bodies])

    assert [body for _, body in recording.units] == bodies
    assert sum(events for events, _ in recording.units) == pytest.approx(EVENTS)
    assert recording.event_bytes == sum(map(len, bodies)) / EVENTS


@given(pieces=st.lists(st.binary(min_size=1), min_size=1, max_size=50))
def test_a_stream_stays_whole(pieces: list[bytes]) -> None:
    recording = of_pieces("tcp", pieces)

    assert b"".join(cut for _, cut in recording.units) == b"".join(pieces)
    assert sum(events for events, _ in recording.units) == pytest.approx(EVENTS)


@given(messages=st.lists(st.binary(), min_size=1, max_size=50), size=st.integers(1, 100))
def test_relp_messages_are_found_in_frames_however_they_were_cut(
    messages: list[bytes], size: int
) -> None:
    frames = [b"%d syslog %d %b\n" % (n, len(m), m) for n, m in enumerate(messages, 2)]
    stream = b"1 open 14 relp_version=0\n" + b"".join(frames)
    pieces = [stream[place : place + size] for place in range(0, len(stream), size)]

    assert messages == [m for _, unit in of_pieces("relp", pieces).units for m in unit]


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    recording = Recording([(EVENTS, [(b"key", b"value", [("name", b"text")])])])
    recording.save(tmp_path / "recording")

    assert recording == Recording.load(tmp_path / "recording")
