"""The daemon from start to end: open, start, wait, reload, drain, close."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from forwarder import __version__
from forwarder.admin.control import ControlSocket
from forwarder.admin.server import AdminServer
from forwarder.config import ForwarderSettings, watched_files
from forwarder.core.errors import ConfigError, ForwarderError
from forwarder.core.own_events import Own, own_row
from forwarder.core.telemetry import TelemetryEvent
from forwarder.core.timing import Clock
from forwarder.delivery.events import SinkDrained
from forwarder.journal import Journal
from forwarder.journal.events import GapClosed, GapOpened, with_name
from forwarder.observe.events import (
    AdminListening,
    JournalTroubled,
    SecretChanged,
    SettingsRefused,
    SettingsWarning,
    Started,
    Stopped,
    Stopping,
    TaskStuck,
)
from forwarder.runtime.admin_tls import admin_tls
from forwarder.runtime.commands import commands_of
from forwarder.runtime.fingerprint import fingerprint
from forwarder.runtime.parts import Parts, SettingsReader, Telemetry, keeping
from forwarder.runtime.reloading import Reloader
from forwarder.runtime.secret_watch import SecretWatch
from forwarder.runtime.signals import Signals, first
from forwarder.runtime.supervisor import Beat

GRACE = 25.0
"""Seconds from the first signal to the end of the process."""
_CLOSING = 4.0
_FAREWELL = 3.0
"""Seconds for the last events, of sinks that have few."""
_NEAR = 1000
_UPKEEP = 5.0
_GARBAGE = (50_000, 20, 50)
"""Thresholds of the garbage collector. A page makes thousands of short-lived rows, none in a
cycle: looking for cycles at every 700 of them, as Python does by itself, is mostly in vain."""


class Daemon:
    """Runs the forwarder until it is told to stop."""

    def __init__(
        self,
        settings: ForwarderSettings,
        read_settings: SettingsReader,
        telemetry: Telemetry,
        signals: Signals,
        clock: Clock,
    ) -> None:
        """Open nothing yet; ``read_settings`` is called at a reload."""
        self._settings = settings
        self._read_settings = read_settings
        self._telemetry = telemetry
        self._signals = signals
        self._clock = clock
        self._abandoned = 0
        self.admin_url = ""
        self.running = asyncio.Event()

    async def run(self) -> bool:
        """Run until a signal; return whether everything that was in flight has settled.

        Raises ``ConfigError``, ``LockedError``, ``DamagedError`` or ``StateError`` when it cannot
        start.
        """
        async with AsyncExitStack() as stack:
            root = self._settings.root
            journal = await Journal.open(
                root.state_dir, keeping(self._settings), clock=self._clock, emit=self._emit
            )
            stack.push_async_callback(journal.aclose)
            parts = Parts.around(journal, self._settings, self._telemetry, self._clock, self._emit)
            reloader = Reloader(parts, self._settings, self._read_settings, self._telemetry)
            stack.push_async_callback(parts.streams.stop)
            stack.push_async_callback(parts.supervisor.stop_all)
            await self._listen(stack, parts, reloader)
            await self._start(parts, reloader)
            await self._serve(reloader)
            await self._wind_down(parts)
        return not self._abandoned

    async def _listen(self, stack: AsyncExitStack, parts: Parts, reloader: Reloader) -> None:
        """Open the admin server and the control socket first: a slow start can be watched."""
        root = self._settings.root
        if root.admin.address is not None:
            tls = admin_tls(root.admin, self._emit)
            server = AdminServer(parts.overview, token=root.admin.token, tls=tls)
            self.admin_url = await server.start(*root.admin.address)
            stack.push_async_callback(server.aclose)
            self._emit(AdminListening(self.admin_url))
        control = ControlSocket(root.state_dir, commands_of(parts, reloader))
        await control.start()
        stack.push_async_callback(control.aclose)

    async def _start(self, parts: Parts, reloader: Reloader) -> None:
        settings, supervisor = self._settings, parts.supervisor
        for warning in settings.warnings:
            self._emit(SettingsWarning(warning))
        await parts.sinks.join(settings.sinks)
        await self._note(parts, Own.START)
        parts.sinks.start(sink.name for sink in settings.sinks)
        await parts.streams.start(settings.accounts)
        parts.overview.expect()
        await parts.backfills.resume()
        watch = SecretWatch(
            lambda: watched_files(reloader.settings),
            lambda file: self._heal(parts, file),
            self._clock,
        )
        supervisor.start("secrets", watch.run)
        supervisor.start("history", parts.overview.watch)
        supervisor.start("upkeep", lambda beat: self._upkeep(parts, beat))
        config_hash = fingerprint(settings)
        parts.overview.started, parts.overview.config_hash = True, config_hash
        self._emit(Started(__version__, config_hash, parts.streams.count, len(settings.sinks)))
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GARBAGE)
        self.running.set()

    async def _serve(self, reloader: Reloader) -> None:
        """Wait for the end; read the settings anew whenever a signal asks for it."""
        signals = self._signals
        while not signals.stop.is_set():
            await first(signals.stop, signals.reload)
            if signals.reload.is_set():
                signals.reload.clear()
                try:
                    await reloader.reload()
                except ConfigError as error:
                    faults = tuple(str(fault) for fault in error.faults)
                    self._emit(SettingsRefused(faults))

    async def _wind_down(self, parts: Parts) -> None:
        """Read no more, let writes end, acknowledge; what was not delivered stays stored."""
        self._emit(Stopping(self._signals.reason, GRACE))
        began = self._clock.monotonic()
        parts.overview.started = False
        await parts.streams.stop()
        await self._note(parts, Own.STOP)
        await self._bid_farewell(parts)
        spent = self._clock.monotonic() - began
        await parts.sinks.drain(None, max(1.0, GRACE - _CLOSING - spent))
        await parts.supervisor.stop_all()
        places = await parts.journal.places()
        backlog = sum(place.backlog for place in places if place.running)
        self._telemetry.observer.flush()
        await asyncio.to_thread(self._telemetry.observer.close)
        self._emit(Stopped(not self._abandoned, backlog))

    async def _bid_farewell(self, parts: Parts) -> None:
        """Let sinks that are up to date deliver the last event too: nobody else will soon."""
        backlog = Counter[str]()
        for place in await parts.journal.places():
            backlog[place.sink] += place.backlog
        near = [name for name, events in backlog.items() if events <= _NEAR]
        await parts.sinks.finish(near, _FAREWELL)

    async def _upkeep(self, parts: Parts, beat: Beat) -> None:
        """Prune, keep what the next process should know, write held-back lines; for ever."""
        while True:
            beat()
            await self._clock.sleep(_UPKEEP)
            try:
                await parts.journal.maintain()
                await parts.streams.remember()
            except ForwarderError as error:
                self._emit(JournalTroubled(str(error)))
            for task in parts.supervisor.states():
                if task.stuck:
                    self._emit(TaskStuck(task.name, task.silent))
            self._telemetry.observer.flush()

    async def _note(self, parts: Parts, event: Own) -> None:
        """Store one of the forwarder's own events; a full disk must not keep it from starting."""
        try:
            row = own_row(event, self._clock.now_us(), version=__version__)
            await parts.journal.append_own("", [row])
        except ForwarderError as error:
            self._emit(JournalTroubled(str(error)))

    def _heal(self, parts: Parts, file: Path) -> None:
        self._emit(SecretChanged(str(file)))
        parts.streams.wake()
        parts.sinks.wake()

    def _emit(self, happening: TelemetryEvent) -> None:
        if isinstance(happening, SinkDrained):
            self._abandoned += happening.abandoned
        elif isinstance(happening, GapOpened | GapClosed):
            labels = {one.account_id: one.label for one in self._settings.accounts}
            happening = replace(happening, scope=with_name(happening.scope, labels))
        self._telemetry.observer.emit(happening)
