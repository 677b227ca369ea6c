"""Opens the journal of the settings: the only module outside the journal that knows its engine.

The journal's lock is in the state folder. Whoever removes the folder removes the lock, and a second
process would start on a new folder of the same path. So the path itself is claimed too.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Self

from forwarder.core.errors import LockedError, TransientError
from forwarder.core.journal import Journal, JournalView, Keeping
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.journal import sqlite
from forwarder.journal.database import REMEDY, SqliteEngine
from forwarder.journal.schema import check_fully

if TYPE_CHECKING:
    from forwarder.config import ForwarderSettings

_CREDENTIALS = struct.Struct("3i")


async def open_journal(settings: ForwarderSettings, *, clock: Clock, emit: Emit) -> Journal:
    """Open the journal of the settings for this process alone.

    Raises ``ConfigError``, ``LockedError``, ``DamagedError``, ``StateError`` or
    ``TransientError``; nothing was changed then.
    """
    root = settings.root
    keeping = Keeping(root.journal.max_size, round(root.journal.keep_delivered * 1_000_000))
    return await sqlite.SqliteJournal.open(root.state_dir, keeping, clock=clock, emit=emit)


def path_of(state_dir: Path) -> Path:
    """Return where the journal of a state folder is."""
    return SqliteEngine(state_dir).path


def open_view(state_dir: Path) -> JournalView:
    """Open a journal for reading, whether a daemon runs or not.

    Raises ``StateError`` if there is none, or one of another version, and ``DamagedError``.
    """
    return sqlite.open_view(state_dir)


def check_journal(state_dir: Path) -> tuple[Path, list[str], str]:
    """Read the whole journal; return where it is, every damage, and what helps against damage.

    Judges the file as ``run`` does. Raises as ``open_view``, but an older version is no fault.
    """
    engine = SqliteEngine(state_dir)
    return engine.path, list(check_fully(engine)), REMEDY


class StateFolder:
    """Claims the path of a state folder, and watches the folder while its journal is open."""

    def __init__(self, path: Path) -> None:
        """Look at nothing yet."""
        self._path = path
        self._claim: socket.socket | None = None
        self._journal: Path | None = None
        self._identity: tuple[int, int] | None = None
        self._trouble: TransientError | None = None

    def __enter__(self) -> Self:
        """Claim the path before the journal is opened.

        Raises ``LockedError`` if a process of this user runs on a folder that was here before.
        """
        # While there is a lock, it is the better judge: it names the holder and its host.
        if not (self._path / "lock").exists():
            self._claim_path()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the path back."""
        if self._claim is not None:
            self._claim.close()

    def opened(self, journal: Path) -> None:
        """Note the file that was opened: from now on it must not be removed or replaced."""
        self._claim_path()
        self._journal, self._identity = journal, _identity(journal)

    def look(self) -> None:
        """Set ``trouble``; blocks as long as the file system does."""
        gone = self._journal is not None and _identity(self._journal) != self._identity
        self._trouble = _gone(self._path) if gone else None

    @property
    def trouble(self) -> TransientError | None:
        """What the latest look has found: the journal is gone; None if all is well."""
        return self._trouble

    def warnings(self) -> tuple[str, ...]:
        """Return a sentence if the folder is open to others than its owner."""
        mode = stat.S_IMODE(self._path.stat().st_mode)
        if not mode & 0o077:
            return ()
        reason = "other users can reach the journal, which holds rows as received"
        return (f"state_dir: {self._path} has mode {mode:04o}: {reason}; chmod 700 {self._path}",)

    def _claim_path(self) -> None:
        """Bind a name that stands for the path, if the system has such names."""
        if self._claim is not None:
            return
        try:
            parent = self._path.absolute().parent.stat()
        except OSError:
            return  # not there yet, so nobody can have removed a folder in it
        # By the parent's identity: containers that share a network have their own folders at equal
        # paths and must not meet. The name is abstract: no file that could be removed as well.
        name = f"\0forwarder/{parent.st_dev}/{parent.st_ino}/{self._path.name}"
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(name)
            claim.listen(1)
        except OSError as error:
            claim.close()
            holder = _holder(name) if error.errno == errno.EADDRINUSE else None
            if holder is not None:
                raise LockedError(
                    f"state_dir {self._path} is in use by process {holder}, which runs on a folder"
                    " of this path that was removed or replaced; stop that process first"
                ) from error
        else:
            self._claim = claim


def _holder(name: str) -> int | None:
    """Return the process that holds a name; None if it is another user's, or gone by now."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(1.0)
        try:
            asking.connect(name)
            packed = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
    process, user, _ = _CREDENTIALS.unpack(packed)
    # Anybody may take any name; a folder of mode 0700 is used by one user only.
    return process if user == os.geteuid() else None


def _gone(path: Path) -> TransientError:
    return TransientError(
        f"the state folder {path} was removed or replaced: what is stored from now on is lost when"
        " the forwarder stops",
        hint="put the folder back as it was, or restart the forwarder",
    )


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
