"""RELP frames come out as they went in, however the network cuts them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.sinks.relp import Frame, MalformedError, Reader, encode, following

numbers = st.integers(0, 999_999_999)
oddities = st.builds(
    Frame, numbers, st.sampled_from([b"rsp", b"serverclose"]), st.binary(max_size=40)
)
plain = st.builds(Frame, numbers, st.just(b"rsp"), st.just(b"200 OK"))
frames = st.lists(plain, max_size=8) | st.lists(plain | oddities, max_size=8)


@given(frames=frames, sizes=st.lists(st.integers(1, 30), max_size=40))
def test_frames_are_read_back_however_they_are_cut(frames: list[Frame], sizes: list[int]) -> None:
    data = b"".join(encode(frame.txnr, frame.command, frame.data) for frame in frames)
    reader, read = Reader(), list[Frame]()

    for size in sizes:
        read += reader.feed(data[:size])
        data = data[size:]
    read += reader.feed(data)

    assert read == frames


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_otherwise_than_by_saying_so(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        Reader().feed(data)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n",
        b"1 rsp 6 200 OKx",
        b"1 rsp 999999999 x",
        b"1 rsp 3\nabc\n",
    ],
)
def test_what_is_no_relp_is_named(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Reader().feed(data)


@given(st.lists(plain, min_size=1, max_size=5), st.sampled_from([b"x", b" ", b"1234567890", b""]))
def test_good_answers_do_not_hide_what_is_wrong_among_them(
    answers: list[Frame], wrong: bytes
) -> None:
    before = b"".join(encode(*frame) for frame in answers)

    with pytest.raises(MalformedError):
        Reader().feed(before + wrong + b" rsp 6 200 OK\n" + before * 9)


def test_librelp_ends_an_empty_frame_with_or_without_a_blank() -> None:
    assert (
        Reader().feed(b"0 serverclose 0 \n0 serverclose 0\n") == [Frame(0, b"serverclose", b"")] * 2
    )


def test_transaction_numbers_start_again_at_one() -> None:
    assert following(1) == 2
    assert following(999_999_999) == 1
