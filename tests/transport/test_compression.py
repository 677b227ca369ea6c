"""Compressed bodies are gzip that anybody reads."""

import gzip
import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.sinks.file import compress_file
from forwarder.testing.fake_sinks import sink_context
from forwarder.transport.http import HttpSettings
from forwarder.transport.http_destination import HttpDestination, compress


@given(st.binary(max_size=5000))
def test_what_is_compressed_comes_back_whole(data: bytes) -> None:
    assert gzip.decompress(compress(data)) == data


@pytest.mark.parametrize("size", [0, 10, 20_000_000])
async def test_small_and_large_bodies_come_back_whole(size: int) -> None:
    data = b"abcdefgh" * (size // 8)

    http = HttpDestination(HttpSettings(url="http://x"), sink_context())

    assert gzip.decompress(await http.packed(data)) == data


def test_the_same_body_gives_the_same_bytes() -> None:
    assert compress(b"x" * 1000) == compress(b"x" * 1000)


@given(st.binary(max_size=5000), st.binary(max_size=100))
def test_a_file_is_compressed_from_where_it_stands_to_its_end(data: bytes, before: bytes) -> None:
    source, target = io.BytesIO(before + data), io.BytesIO()
    source.seek(len(before))

    compress_file(source, target)

    assert gzip.decompress(target.getvalue()) == data


def test_a_compressed_file_is_one_member_however_long_it_is() -> None:
    data, target = b"abcdefgh" * 1_000_000, io.BytesIO()

    compress_file(io.BytesIO(data), target)

    unpacked = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    assert unpacked.decompress(target.getvalue()) == data
    assert unpacked.eof
    assert not unpacked.unused_data
