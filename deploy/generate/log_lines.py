"""Which log lines there are: names, levels, meanings and keys, as the events describe them."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import forwarder
from forwarder.core.telemetry import Description, Level, PluginEvent, TelemetryEvent

_FIRST_SENTENCE = re.compile(r"\A(.+?\.)(?:\s|\Z)", re.DOTALL)


@dataclass
class Described:
    """One name that ``event`` can have: its levels, what it means, and its keys, in order."""

    levels: set[Level] = field(default_factory=set)
    meaning: str = ""
    keys: dict[str, None] = field(default_factory=dict)

    def add(self, description: Description, meaning: str) -> None:
        """Add what one class of events says; several classes can share a line."""
        self.levels.update(description.levels)
        self.meaning = self.meaning or meaning
        self.keys |= dict.fromkeys(description.keys)


def log_lines() -> dict[str, Described]:
    """Return every line's name with what the events say of it, sorted."""
    found: dict[str, Described] = {}
    for kind in described_events():
        if kind.description is not None:
            means = PluginEvent if issubclass(kind, PluginEvent) else kind
            found.setdefault(kind.description.line, Described()).add(
                kind.description, meaning_of(means)
            )
    return dict(sorted(found.items()))


def described_events() -> list[type[TelemetryEvent]]:
    """Return every event that ships, in a stable order."""
    for module in pkgutil.walk_packages(forwarder.__path__, "forwarder."):
        # Sinks declare their events beside their code, everybody else in events.py.
        if module.name.endswith(".events") or module.name.startswith("forwarder.sinks."):
            importlib.import_module(module.name)
    ours = (one for one in _below(TelemetryEvent) if one.__module__.startswith("forwarder."))
    return sorted(ours, key=lambda one: (one.__module__, one.__qualname__))


def _below(kind: type[TelemetryEvent]) -> Iterator[type[TelemetryEvent]]:
    for one in kind.__subclasses__():
        # A dataclass with slots is a second class; the first, without a description, may linger.
        if "description" in vars(one):
            yield one
        yield from _below(one)


def meaning_of(kind: type[TelemetryEvent]) -> str:
    """Return the first sentence of an event's docstring, with code marked as in Markdown."""
    found = _FIRST_SENTENCE.match(" ".join((kind.__doc__ or "").split()))
    if found is None:
        raise ValueError(f"{kind.__qualname__} needs a docstring that says what its line means")
    return found[1].replace("``", "`")
