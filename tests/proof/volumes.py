"""Small file systems of their own, which a test fills, empties and turns read-only; needs root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_BLOCK = 4096


class Volume:
    """A mounted file system, part of which ballast can take."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def load(self, size: int) -> None:
        """Let ballast take so many bytes, which ``empty`` gives back."""
        self._ballast.write_bytes(bytes(size))

    def fill(self) -> None:
        """Write until the volume takes no more."""
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while file.write(bytes(_BLOCK)):
                    pass
            except OSError:
                return

    def empty(self) -> None:
        """Free what the ballast took."""
        self._ballast.write_bytes(b"")

    def remount(self, how: str) -> None:
        """Turn it read-only (``ro``) or writable (``rw``)."""
        subprocess.run(["mount", "-o", f"remount,{how}", self.folder], check=True)


@contextmanager
def volume(folder: Path, mebibytes: int) -> Iterator[Volume]:
    """Mount a fresh volume at ``folder``; skips the test where nobody may mount."""
    folder.mkdir()
    options = f"size={mebibytes}m,mode=755"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield Volume(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
