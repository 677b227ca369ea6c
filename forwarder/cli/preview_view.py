"""A row and what each sink would receive of it: side by side, one above the other, or as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from forwarder.runtime.previewing import Preview

_NARROWEST = 48
"""Characters a column needs: a key and an id of 36 characters, indented, stay in one line."""


def rendered(preview: Preview, width: int) -> RenderableType:
    """Return the preview for a terminal of ``width`` characters.

    The row and all bodies stand side by side if there is room for that, else in panels.
    """
    parts = _parts(preview)
    if width < _NARROWEST * len(parts):
        panels = (
            Panel(Text(text), title=Text(name), title_align="left") for name, text in parts.items()
        )
        return Group(*panels)
    table = Table(show_lines=True)
    for name in parts:
        table.add_column(Text(name), overflow="fold", ratio=1)
    table.add_row(*map(Text, parts.values()))
    return table


def plain(preview: Preview) -> str:
    """Return the preview for a file or another program: no frames, and no line is broken."""
    return "\n".join(f"{name}\n{text}\n" for name, text in _parts(preview).items())


def _parts(preview: Preview) -> dict[str, str]:
    """Return what there is to show, by its heading."""
    received = {f"{preview.stream}: as received": _indented(preview.row)}
    return received | {name: _readable(body) for name, body in preview.bodies.items()}


def _readable(body: bytes | None) -> str:
    """Return JSON indented and any other text as it is."""
    if body is None:
        return "(left out by this sink's filters)"
    try:
        return _indented(orjson.loads(body))
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")


def _indented(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
