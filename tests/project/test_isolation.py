"""The tests' own guard: no test reaches beyond this machine."""

import socket
from contextlib import closing
from pathlib import Path

import pytest


@pytest.mark.parametrize("address", [("0.0.0.0", 0), ("", 0), ("192.0.2.1", 0)])
def test_listening_beyond_the_loopback_is_refused(address: tuple[str, int]) -> None:
    with closing(socket.socket()) as unbound, pytest.raises(AssertionError, match=r"127\.0\.0\.1"):
        unbound.bind(address)


@pytest.mark.parametrize("address", [("192.0.2.1", 9), ("10.0.0.1", 514)])
def test_sending_beyond_the_loopback_is_refused(address: tuple[str, int]) -> None:
    with (
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as unbound,
        pytest.raises(AssertionError, match=r"127\.0\.0\.1"),
    ):
        unbound.connect(address)


def test_the_loopback_and_unix_sockets_are_open(tmp_path: Path) -> None:
    with closing(socket.socket()) as over_tcp, closing(socket.socket(socket.AF_UNIX)) as over_unix:
        over_tcp.bind(("127.0.0.1", 0))
        over_unix.bind(str(tmp_path / "socket"))

        assert over_tcp.getsockname()[1] > 0
