"""A network of its own for this process: only its loopback, and the kernel's rules to cut it with.

Everything that is started from here meanwhile, processes too, lives in it. Needs the right to make
network namespaces; nothing outside of it can be reached or harmed.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_NEW_NETWORK = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_PREFERENCE = "10"


class NoNamespaceError(Exception):
    """This machine does not let us."""


@contextmanager
def own_network() -> Iterator[None]:
    """Live in a fresh network inside the block; raises ``NoNamespaceError`` where that is refused.

    The loopback's route is looked up after our rules, which is what lets them cut it.
    """
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        if _LIBC.unshare(_NEW_NETWORK):
            raise NoNamespaceError(os.strerror(ctypes.get_errno()))
        try:
            _run("ip", "link", "set", "lo", "up")
            _run("ip", "rule", "add", "pref", "100", "lookup", "local")
            _run("ip", "rule", "del", "pref", "0")
            yield
        finally:
            _LIBC.setns(home, _NEW_NETWORK)
    finally:
        os.close(home)


def cut(port: int, how: str) -> None:
    """Lose every packet to and from a port; new connections are refused at once.

    ``how`` is a kind of route: ``blackhole``, ``unreachable`` or ``prohibit``.
    """
    for end in ("sport", "dport"):
        _run("ip", "rule", "add", "pref", _PREFERENCE, "ipproto", "tcp", end, str(port), how)


def repair(ports: int) -> None:
    """Remove the rules of so many ports."""
    for _ in range(2 * ports):
        _run("ip", "rule", "del", "pref", _PREFERENCE)


def kill_connections(port: int) -> None:
    """Have the kernel abort every connection to a port, on both sides."""
    _run("ss", "--no-header", "--kill", "dport", "=", str(port))


def link(state: str) -> None:
    """Take the only link ``down``, or ``up`` again."""
    _run("ip", "link", "set", "lo", state)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoNamespaceError(f"{' '.join(command)}: {done.stderr.strip()}")
