"""Compressed bodies are gzip that anybody reads."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.transport.compression import compress, gzipped


@given(st.binary(max_size=5000))
def test_what_is_compressed_comes_back_whole(data: bytes) -> None:
    assert gzip.decompress(compress(data)) == data


@pytest.mark.parametrize("size", [0, 10, 20_000_000])
async def test_small_and_large_bodies_come_back_whole(size: int) -> None:
    data = b"abcdefgh" * (size // 8)

    assert gzip.decompress(await gzipped(data)) == data


def test_the_same_body_gives_the_same_bytes() -> None:
    assert compress(b"x" * 1000) == compress(b"x" * 1000)
