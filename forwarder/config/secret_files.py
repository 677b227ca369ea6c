"""Secrets in the settings: can their files be read, and who else may read them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from forwarder.config.document import Document, Place, dotted
from forwarder.config.models import ForwarderSettings
from forwarder.core.errors import Fault, NeedsOperatorError
from forwarder.transport.secrets import Secret

_OTHERS = 0o077
_OTHERS_BUT_READING_GROUP = 0o037


def secrets_of(settings: ForwarderSettings) -> Iterator[tuple[Place, Secret]]:
    """Yield every secret with the place of its key; the key of a file ends in ``_file``."""
    for place, value in _values(settings):
        if isinstance(value, Secret):
            yield (place if value.path is None else _as_file(place)), value


def watched_files(settings: ForwarderSettings) -> list[Path]:
    """Return the files whose change may mend something: secrets, certificates, keys."""
    secrets = [secret.path for _, secret in secrets_of(settings) if secret.path is not None]
    return [*secrets, *(file for _, file in _files(settings))]


def check_secrets(
    settings: ForwarderSettings, document: Document, path: Path | None
) -> tuple[list[Fault], list[str]]:
    """Return faults for files that cannot be read and warnings for modes that are too wide.

    ``path`` is the settings file itself, which counts when a secret is written in it.
    """
    faults: list[Fault] = []
    guarded: dict[Path, Place] = {}
    for place, secret in secrets_of(settings):
        try:
            secret.reveal()
        except NeedsOperatorError as error:
            faults.append(document.fault(place, str(error), error.hint))
            continue
        if secret.path is not None:
            guarded.setdefault(secret.path, place)
        elif path is not None and "${" not in str(document.written(place)):
            guarded.setdefault(path, place)
    faults += [
        document.fault(place, f"the file {file} cannot be read")
        for place, file in _files(settings)
        if not file.is_file() or not os.access(file, os.R_OK)
    ]
    warnings = [_mode_warning(file, place) for file, place in guarded.items()]
    return faults, [warning for warning in warnings if warning]


def _files(settings: ForwarderSettings) -> Iterator[tuple[Place, Path]]:
    for place, value in _values(settings):
        if isinstance(value, Path) and str(place[-1]).endswith("_file"):
            yield place, value


def _mode_warning(file: Path, place: Place) -> str:
    """Return a warning; what belongs to somebody else can only be read through the group."""
    found = file.stat()
    mode = found.st_mode & 0o777
    too_wide = _OTHERS if found.st_uid == os.geteuid() else _OTHERS_BUT_READING_GROUP
    if not mode & too_wide:
        return ""
    return f"{file} holds {dotted(place)} and has mode {mode:04o}; run: chmod 600 {file}"


def _as_file(place: Place) -> Place:
    *parents, last = place
    return (*parents, f"{last}_file")


def _values(settings: ForwarderSettings) -> Iterator[tuple[Place, Any]]:
    yield from _walk(settings.root, ())
    for index, account in enumerate(settings.accounts):
        yield from _walk(account.config, ("accounts", index))
    for sink in settings.sinks:
        for model in (sink.options, sink.config, sink.format_config):
            yield from _walk(model, ("sinks", sink.name))


def _walk(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        value = {fields[name].alias or name: item for name, item in value}
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, (*place, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _walk(item, (*place, index))
    else:
        yield place, value
