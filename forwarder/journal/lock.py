"""The state folder belongs to one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path

import orjson

from forwarder.core.errors import ConfigError, Fault, LockedError, StateError
from forwarder.core.timestamps import format_seconds

_OF_THE_SETTINGS = {
    errno.EACCES,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
}
"""Trying again does not help: the path is wrong, or belongs to somebody else."""


class StateLock:
    """An advisory lock on ``state_dir/lock``; the kernel releases it when the process dies."""

    def __init__(self, state_dir: Path, now_us: int) -> None:
        """Create the folder (0700) if it is missing and take the lock.

        Raises ``LockedError`` with the holder, ``ConfigError`` when the settings name a folder
        that this user cannot have, ``StateError`` when the disk is at fault.
        """
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unusable(state_dir, error) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._descriptor, 4096)
            os.close(self._descriptor)
            raise LockedError(
                f"state_dir {state_dir} is in use by {_describe(holder)}; "
                "stop that process or choose another state_dir"
            ) from error
        holder = orjson.dumps(
            {"pid": os.getpid(), "host": socket.gethostname(), "since": format_seconds(now_us)}
        )
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, holder, 0)

    def release(self) -> None:
        """Give the folder back; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _unusable(state_dir: Path, error: OSError) -> ConfigError | StateError:
    problem = f"{state_dir} cannot be used: {error.strerror}"
    if error.errno in _OF_THE_SETTINGS:
        hint = "it must be a folder that this user may write"
        return ConfigError([Fault("state_dir", problem, hint)])
    return StateError(f"state_dir {problem}; free space on the volume or mend it")


def _describe(holder: bytes) -> str:
    try:
        known = orjson.loads(holder)
        return f"process {known['pid']} on {known['host']} since {known['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
