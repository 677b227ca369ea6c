"""Which rows and formats have a golden file, and what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from forwarder.formats.asim import AsimFormat
from forwarder.formats.cef import CefFormat
from forwarder.formats.cim import CimFormat
from forwarder.formats.ecs import EcsConfig, EcsFormat
from forwarder.formats.leef import LeefFormat
from forwarder.formats.ocsf import OcsfConfig, OcsfFormat
from forwarder.formats.pipeline import Pipeline
from forwarder.formats.raw import RawConfig, RawFormat
from forwarder.formats.templates import FormatConfig
from forwarder.formats.text import TextFormat
from forwarder.testing.samples import ACCOUNTS, NORMALISERS, ROWS, page_of

FOLDER = Path(__file__).parent / "expected"
FORMATS: dict[str, Any] = {
    "raw": RawFormat(RawConfig()),
    "ocsf": OcsfFormat(OcsfConfig()),
    "ocsf-1.7.0": OcsfFormat(OcsfConfig(ocsf_version="1.7.0")),
    "ocsf-1.9.0": OcsfFormat(OcsfConfig(ocsf_version="1.9.0")),
    "ecs": EcsFormat(EcsConfig()),
    "cim": CimFormat(FormatConfig()),
    "asim": AsimFormat(FormatConfig()),
    "cef": CefFormat(FormatConfig()),
    "leef": LeefFormat(FormatConfig()),
    "text": TextFormat(FormatConfig()),
}
_ONLY_SCIM = {"ocsf-1.7.0", "ocsf-1.9.0"}
"""Versions of OCSF differ in how they name changes of users and groups."""


def golden_files() -> Iterator[tuple[Path, str]]:
    """Yield the path of each golden file and what it should hold."""
    for stream, rows in ROWS.items():
        for name, row in rows.items():
            yield FOLDER / name / "row.json", _pretty(row)
            for format_name, style in FORMATS.items():
                if format_name in _ONLY_SCIM and stream != "scim_updates":
                    continue
                (event,) = Pipeline(style, NORMALISERS, ACCOUNTS)(page_of(stream, [row])).events
                if style.media_type == "application/json":
                    yield FOLDER / name / f"{format_name}.json", _pretty(orjson.loads(event.body))
                else:
                    yield FOLDER / name / f"{format_name}.txt", event.body.decode() + "\n"


def _pretty(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"
