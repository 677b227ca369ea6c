"""What two sinks cannot share, and what no sink may write: found before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forwarder.config.document import Document
from forwarder.config.models import ForwarderSettings
from forwarder.core.errors import Fault


def check_exclusive(settings: ForwarderSettings, document: Document) -> list[Fault]:
    """Return a fault for every sink that writes where another or the forwarder itself does.

    Sinks of one type are compared by what ``PluginSettings.exclusive`` says; a path by the file
    that it leads to, so that a link does not hide it.
    """
    faults: list[Fault] = []
    first: dict[tuple[str, str, Any], str] = {}
    state = settings.root.state_dir.resolve()
    for sink in settings.sinks:
        for key, given in sink.config.exclusive().items():
            place = ("sinks", sink.name, key)
            value = given.resolve() if isinstance(given, Path) else given
            owner = first.setdefault((sink.type, key, value), sink.name)
            if owner != sink.name:
                problem = f"the same as sinks.{owner}.{key}, and two sinks cannot share it"
                faults.append(document.fault(place, problem, "give each its own"))
            if isinstance(value, Path) and value.is_relative_to(state):
                problem = f"{given} lies in state_dir, which holds the journal and nothing else"
                faults.append(document.fault(place, problem, "choose another folder"))
    return faults
