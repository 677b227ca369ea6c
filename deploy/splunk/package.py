"""Packs the app as Splunk installs it: the same files give the same bytes on every machine."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

APP = Path(__file__).parent / "cloudflare_access_forwarder"
_LICENSE = Path(__file__).parents[2] / "LICENSE"
# What Splunk itself and its users write into an installed app.
_NOT_OURS = {"local", "local.meta", "__pycache__"}


def package(app: Path = APP) -> bytes:
    """Return the app as a gzipped tar archive, without what an installation has added to it."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(_folder(app.name))
        for path in _contents(app):
            name = f"{app.name}/{path.relative_to(app).as_posix()}"
            _add(archive, name, None if path.is_dir() else path.read_bytes())
        _add(archive, f"{app.name}/LICENSE", _LICENSE.read_bytes())
    # Neither a time nor a file name in the header.
    return gzip.compress(plain.getvalue(), mtime=0)


def _contents(app: Path) -> Iterator[Path]:
    """Yield folders before what is in them, in an order that no file system decides."""
    for path in sorted(app.rglob("*")):
        parts = path.relative_to(app).parts
        if _NOT_OURS.isdisjoint(parts) and not any(part.startswith(".") for part in parts):
            yield path


def _add(archive: tarfile.TarFile, name: str, content: bytes | None) -> None:
    if content is None:
        archive.addfile(_folder(name))
        return
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = 0o644, len(content)
    archive.addfile(entry, io.BytesIO(content))


def _folder(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry
