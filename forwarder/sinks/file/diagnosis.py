"""``check --live`` for a file: can this user write it, and does somebody else already."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from forwarder.core.model import Finding

_GIVE = "give it to the user that runs the forwarder"


def diagnose(path: Path) -> Finding:
    """Look at the file, or at its folder while there is no file; nothing is made or changed."""
    subject = str(path)
    try:
        for text, hint in _wrong(path):
            return Finding("fault", subject, text, hint)
        if not path.exists():
            return Finding("ok", subject, "is not there yet and can be made")
        taken = "is being written by a process, most likely the forwarder"
        return Finding("ok", subject, taken if _is_locked(path) else "can be written")
    except OSError as error:
        return Finding("fault", subject, error.strerror or type(error).__name__, "check the path")


def _wrong(path: Path) -> Iterator[tuple[str, str]]:
    """Yield what is wrong, the cause first, each with what to do."""
    folder = path.parent
    if path.is_dir():
        yield "is a folder", "path must name a file"
    if not folder.is_dir():
        yield f"there is no folder {folder}", "make the folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        yield f"this user may not write to {folder}", _GIVE
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        yield "this user may not read and write it", _GIVE
    if path.exists() and not path.is_file():
        yield "is no regular file", "choose another path"


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
