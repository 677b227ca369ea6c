"""Ports of 127.0.0.1 for servers that must be told theirs before they start."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from functools import cache

_PATIENCE = 60.0


@cache
def _candidates() -> Iterator[int]:
    """Below what kernels give to outgoing connections and to port 0, so that nobody gets it."""
    return iter(random.sample(range(15_000, 32_000), 17_000))


def free_port() -> int:
    """Return a port that nobody listens at; no second call returns it."""
    for port in _candidates():
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise OSError("no port of 127.0.0.1 is free")


def wait_for_port(port: int, patience: float = _PATIENCE) -> None:
    """Return when somebody listens at ``port``; raise ``OSError`` when nobody does for too long."""
    until = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)  # noqa: TID251 - no loop runs here
        else:
            return
