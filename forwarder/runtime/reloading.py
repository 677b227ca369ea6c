"""New settings in a running daemon: what differs is changed, the rest is not touched."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from forwarder import __version__
from forwarder.config import Changes, ForwarderSettings, RootSettings, changes, secrets_of
from forwarder.core.own_events import Own, own_row
from forwarder.journal.events import with_name
from forwarder.observe.events import SettingsReloaded, SettingsWarning
from forwarder.runtime.fingerprint import fingerprint
from forwarder.runtime.parts import Parts, SettingsReader, Telemetry
from forwarder.runtime.workers import preflight

_GRACE = 10.0


class Reloader:
    """Knows the settings in force and puts new ones into force."""

    def __init__(
        self, parts: Parts, settings: ForwarderSettings, read: SettingsReader, telemetry: Telemetry
    ) -> None:
        """Begin with the settings that the daemon was started with."""
        self.settings = settings
        self._parts = parts
        self._read = read
        self._telemetry = telemetry
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> Changes:
        """Read the settings and apply what differs.

        Raises ``ConfigError`` when they have faults; then nothing has changed.
        """
        async with self._one_at_a_time:
            new = await asyncio.to_thread(self._read)
            preflight(new)
            difference = changes(self.settings, new)
            new = replace(new, root=_kept(self.settings, new))
            self._parts.rendering.learn(new)
            self._telemetry.redactor.know(secret for _, secret in secrets_of(new))
            self._telemetry.output.set_level(new.root.log.level)
            await self._change_sinks(difference, new)
            await self._change_streams(difference, new)
            accounts = (*self.settings.accounts, *new.accounts)
            self.settings = new
            await self._tell(difference, {one.account_id: one.label for one in accounts})
            return difference

    async def _change_sinks(self, difference: Changes, new: ForwarderSettings) -> None:
        sinks = self._parts.sinks
        leaving = (*difference.sinks.removed, *difference.sinks.changed)
        coming = (*difference.sinks.added, *difference.sinks.changed)
        await sinks.drain(leaving, _GRACE)
        sinks.leave(leaving)
        await sinks.join(sink for sink in new.sinks if sink.name in coming)
        sinks.start(coming)

    async def _change_streams(self, difference: Changes, new: ForwarderSettings) -> None:
        """Start the streams of every account anew in which something differs."""
        keys = (*difference.streams.added, *difference.streams.changed, *difference.streams.removed)
        accounts = {key.account_id for key in keys}
        await self._parts.streams.stop(accounts)
        await self._parts.streams.start(
            account for account in new.accounts if account.account_id in accounts
        )

    async def _tell(self, difference: Changes, labels: Mapping[str, str]) -> None:
        parts, name, streams = self._parts, fingerprint(self.settings), difference.streams
        parts.overview.config_hash = name
        parts.overview.expect()
        for warning in self.settings.warnings:
            parts.emit(SettingsWarning(warning))
        parts.emit(
            SettingsReloaded(
                name,
                _words(difference.sinks.added, difference.sinks.changed, difference.sinks.removed),
                _words(
                    *(
                        [with_name(str(key), labels) for key in keys]
                        for keys in (streams.added, streams.changed, streams.removed)
                    )
                ),
                difference.needs_restart,
            )
        )
        row = own_row(Own.CONFIG_RELOADED, parts.clock.now_us(), detail=name, version=__version__)
        await parts.journal.append_own("", [row])


def _kept(old: ForwarderSettings, new: ForwarderSettings) -> RootSettings:
    """Return the new root with the values that only a restart can change left as they are."""
    kept = {key: getattr(old.root, key) for key in ("state_dir", "journal", "admin")}
    return new.root.model_copy(update=kept)


def _words(added: Sequence[str], changed: Sequence[str], removed: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        f"{what} {name}"
        for what, names in (("added", added), ("changed", changed), ("removed", removed))
        for name in names
    )
