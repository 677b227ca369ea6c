"""How older files are called, and which of them may go: pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from forwarder.core.timestamps import format_us

_STAMP = r"\d{8}T\d{6}\.\d{6}Z"


def older_name(path: Path, now_us: int) -> str:
    """Return the name for a file that was written until ``now_us``.

    ``access.ndjson`` becomes ``access-20260101T000000.000000Z.ndjson``; names sort by time.
    """
    stamp = format_us(now_us).replace("-", "").replace(":", "")
    return f"{path.stem}-{stamp}{path.suffix}"


def older_files(path: Path, names: Iterable[str], *, suffix: str = "") -> Sequence[str]:
    """Return those of ``names`` that ``path`` had before, oldest first.

    With ``suffix`` only those with it at the end (``.gz``, ``.gz.part``), without it only whole
    uncompressed files.
    """
    ours = re.compile(f"{re.escape(path.stem)}-{_STAMP}{re.escape(path.suffix)}{re.escape(suffix)}")
    return sorted(name for name in names if ours.fullmatch(name))


def to_remove(older: Sequence[str], keep: int | None) -> Sequence[str]:
    """Return which of the older files, oldest first, are too many."""
    return () if keep is None or len(older) <= keep else older[: len(older) - keep]
