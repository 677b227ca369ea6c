"""Ports of 127.0.0.1 for servers that must be told theirs before they start."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice

_PATIENCE = 60.0
_RANGE = range(15_000, 32_000)


@cache
def _candidates() -> Iterator[int]:
    """Below what kernels give to outgoing connections and to port 0, so that nobody gets it."""
    return cycle(random.sample(_RANGE, len(_RANGE)))


def free_port() -> int:
    """Return a port that nobody listens at; it is long before another call returns it."""
    for port in islice(_candidates(), len(_RANGE)):
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
