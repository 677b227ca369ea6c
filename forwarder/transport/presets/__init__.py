r"""Presets: what a product wants of the sink that serves it. One YAML file each, in this folder.

    product: Datadog Logs            # for people
    sink: http                       # the sink type that it is for
    url: https://...                 # what its address looks like, for people
    path: /api/v2/logs(\?.*)?         # pattern of path and query, to find a wrong address early
    headers: [DD-API-KEY]            # headers without which nothing is taken
    format: ecs                      # the format, unless another one is set
    settings: { body: array }        # keys of the sink, each unless it is set
    limits: { max_bytes: 4500000 }   # of a batch, unless `batch` is set
    answers:                         # where an answer means something else than its status says
      - { status: [200], text: '"failed": ?[1-9]', means: refused }

An answer means ``refused`` (the batch is wrong) or ``hold`` (a person must act, as ``hint`` says).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from forwarder.core.errors import BatchRefusedError, ForwarderError, NeedsOperatorError

_FOLDER = Path(__file__).parent


class Meaning(BaseModel):
    """What an answer with one of these statuses means, if its body has the pattern ``text``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: tuple[int, ...]
    text: str
    means: Literal["refused", "hold"]
    hint: str = ""

    @model_validator(mode="after")
    def _says_what_to_do(self) -> Meaning:
        if self.means == "hold" and not self.hint:
            raise ValueError("what holds a sink needs a hint")
        return self


class Preset(BaseModel):
    """One file; see the head of this module."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: str
    sink: str
    url: str
    path: str = ".*"
    headers: tuple[str, ...] = ()
    format: str
    settings: dict[str, Any] = {}
    limits: dict[str, int] = {}
    answers: tuple[Meaning, ...] = ()

    def problem(self, url: str, headers: Mapping[str, Any]) -> str:
        """Return what is wrong with an address or the headers of a sink, or nothing."""
        parts = urlsplit(url)
        asked = f"{parts.path}?{parts.query}" if parts.query else parts.path
        problems = []
        if url and not re.fullmatch(self.path, asked):
            problems.append(f"the address of {self.product} looks like {self.url}")
        given = {name.lower() for name in headers}
        missing = [name for name in self.headers if name.lower() not in given]
        if missing:
            problems.append(f"{self.product} needs the headers {' and '.join(missing)}")
        return "; ".join(problems)

    def error(self, status: int, body: bytes, where: str) -> ForwarderError | None:
        """Return the error that an answer stands for, None if its status says all."""
        text = body.decode("utf-8", "replace")
        for one in self.answers:
            if status in one.status and re.search(one.text, text):
                said = f"{where} answered {status} with an error of {self.product}"
                if one.means == "hold":
                    return NeedsOperatorError(said, hint=one.hint)
                return BatchRefusedError(said)
        return None


@cache
def _all() -> Mapping[str, Preset]:
    files = {path.stem: path.read_text("utf-8") for path in sorted(_FOLDER.glob("*.yaml"))}
    return {name: Preset.model_validate(yaml.safe_load(text)) for name, text in files.items()}


def presets(sink: str) -> Mapping[str, Preset]:
    """Return the presets of a sink type by name."""
    return {name: preset for name, preset in _all().items() if preset.sink == sink}


def with_preset(sink: str, given: Any) -> Any:
    """Return unchecked settings of a sink with those of their preset, where they have none.

    Raises ``ValueError`` if the preset is one of another sink type.
    """
    preset = _all().get(str(given.get("preset"))) if isinstance(given, dict) else None
    if preset is None:
        return given
    if preset.sink != sink:
        raise ValueError(f"preset {given['preset']!r} is for the sink type {preset.sink}")
    return {**preset.settings, **given}


def format_of(sink: str, settings: Mapping[str, Any], default: str) -> str:
    """Return the format that the preset in unchecked ``settings`` wants, or the default."""
    preset = presets(sink).get(str(settings.get("preset")))
    return preset.format if preset else default
