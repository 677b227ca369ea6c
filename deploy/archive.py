"""Archives that are the same bytes on every machine: the same files, and nothing of who packs."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

# What installations and interpreters leave in a folder.
_NOT_OURS = {"local", "local.meta", "__pycache__"}


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return a gzipped tar archive of files, by name, with a folder before what is in it."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        made: set[str] = set()
        for name in sorted(files):
            for folder in reversed(Path(name).parents[:-1]):
                if folder.as_posix() not in made:
                    made.add(folder.as_posix())
                    archive.addfile(_folder(folder.as_posix()))
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755 if name.endswith(".sh") else 0o644
            entry.size = len(files[name])
            archive.addfile(entry, io.BytesIO(files[name]))
    # Neither a time nor a file name in the header.
    return gzip.compress(plain.getvalue(), mtime=0)


def contents(folders: Iterable[Path], below: Path) -> dict[str, bytes]:
    """Return every file in some folders by its path below another, hidden ones left out."""
    return {
        path.relative_to(below).as_posix(): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and _is_ours(path.relative_to(below).parts)
    }


def _is_ours(parts: tuple[str, ...]) -> bool:
    return _NOT_OURS.isdisjoint(parts) and not any(part.startswith(".") for part in parts)


def _folder(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry
