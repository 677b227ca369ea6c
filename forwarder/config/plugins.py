"""Plugins by name: entry points, imported only when the settings name them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, Protocol, TypeAlias, get_args

Kind: TypeAlias = Literal["sources", "sinks", "formats"]


class Plugins(Protocol):
    """Finds the classes that the settings name."""

    def names(self, kind: Kind) -> list[str]:
        """Return the available names, sorted; imports nothing."""
        ...

    def load(self, kind: Kind, name: str) -> Any:
        """Return the plugin's class; raises ``PluginError`` if it cannot be imported."""
        ...


class PluginError(Exception):
    """A plugin is installed but cannot be used; the message has the reason."""


class InstalledPlugins:
    """The entry points of all installed distributions, groups ``forwarder.<kind>``."""

    def names(self, kind: Kind) -> list[str]:
        """Return the names of one kind, sorted."""
        return sorted(self.entries(kind))

    def entries(self, kind: Kind) -> Mapping[str, EntryPoint]:
        """Return the entry points of one kind by name; the first one installed wins."""
        found: dict[str, EntryPoint] = {}
        for entry in entry_points(group=f"forwarder.{kind}"):
            # Two distributions may claim one name; an order that changes would be worse.
            found.setdefault(entry.name, entry)
        return found

    def listed(self) -> list[dict[str, str]]:
        """Return every plugin for people: ``kind``, ``name``, ``summary``, ``error``, its package.

        Each is imported; ``error`` says why one cannot be.
        """
        return [self._described(kind, name) for kind in get_args(Kind) for name in self.names(kind)]

    def _described(self, kind: Kind, name: str) -> dict[str, str]:
        summary = error = ""
        try:
            summary = getattr(self.load(kind, name), "summary", "")
        except PluginError as fault:
            error = str(fault)
        package = self.entries(kind)[name].dist
        return {
            "kind": kind.removesuffix("s"),
            "name": name,
            "summary": summary,
            "error": error,
            "distribution": package.name if package else "",
        }

    def load(self, kind: Kind, name: str) -> Any:
        """Import one plugin."""
        entry = self.entries(kind)[name]
        try:
            plugin = entry.load()
        except (ImportError, AttributeError, SyntaxError) as error:
            raise PluginError(f"{entry.value} cannot be imported: {error}") from error
        if not hasattr(plugin, "Config"):
            raise PluginError(f"{entry.value} is not a plugin: it has no Config")
        return plugin
