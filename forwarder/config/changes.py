"""What a reload changes, so that everything else keeps running. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from forwarder.config.models import AccountSettings, ForwarderSettings, RootSettings
from forwarder.core.contracts import StreamKey


@dataclass(frozen=True, slots=True)
class Difference:
    """Names or keys that were added, changed and removed; each sorted."""

    added: tuple[Any, ...] = ()
    changed: tuple[Any, ...] = ()
    removed: tuple[Any, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class Changes:
    """``sinks`` by name, ``streams`` by ``StreamKey``, and keys that need a restart.

    ``root`` are the new root settings, but for those keys. They are compared again at the next
    reload, so that ``needs_restart`` names them until then.
    """

    sinks: Difference
    streams: Difference
    needs_restart: tuple[str, ...]
    root: RootSettings


ONLY_BY_RESTART = ("state_dir", "journal", "admin", "log.format", "logpush", "tracing")
"""Settings that a reload leaves as they are; the chart has them too (``forwarder.checksum``)."""


def changes(old: ForwarderSettings, new: ForwarderSettings) -> Changes:
    """Return the differences between the running settings and the new ones."""
    root = _kept(old.root, new.root)
    values = [(name, attrgetter(name)) for name in ONLY_BY_RESTART]
    return Changes(
        sinks=_difference(_sinks(old), _sinks(new)),
        streams=_difference(_streams(old), _streams(new)),
        needs_restart=tuple(name for name, value in values if value(root) != value(new.root)),
        root=root,
    )


def _kept(old: RootSettings, new: RootSettings) -> RootSettings:
    """Return the new root with the values of ``ONLY_BY_RESTART`` left as they are."""
    fixed = {name: getattr(old, name) for name in ONLY_BY_RESTART if "." not in name}
    # Other replicas compare the generation; the journal itself does not depend on it.
    generation = {"settings_generation": new.journal.settings_generation}
    fixed["journal"] = old.journal.model_copy(update=generation)
    log = new.log.model_copy(update={"format": old.log.format})
    return new.model_copy(update={**fixed, "log": log})


def streams_of(account: AccountSettings) -> dict[str, Any]:
    """Return the streams that are switched on, with their settings, by name."""
    return {name: options for name, options in account.config.streams if options is not None}


def _sinks(settings: ForwarderSettings) -> dict[str, Any]:
    return {
        sink.name: (sink.type, sink.config, sink.format, sink.format_config, sink.options)
        for sink in settings.sinks
    }


def _streams(settings: ForwarderSettings) -> dict[Any, Any]:
    """Return everything that each stream depends on: its own settings and its account's."""
    return {
        StreamKey(account.account_id, name): (
            account.type,
            # Without the other streams: a change of one must not restart its sisters.
            account.config.model_copy(update={"streams": None}),
            options,
        )
        for account in settings.accounts
        for name, options in streams_of(account).items()
    }


def _difference(old: dict[Any, Any], new: dict[Any, Any]) -> Difference:
    return Difference(
        added=tuple(sorted(new.keys() - old.keys(), key=str)),
        changed=tuple(sorted((k for k in old.keys() & new.keys() if old[k] != new[k]), key=str)),
        removed=tuple(sorted(old.keys() - new.keys(), key=str)),
    )
