"""The daemon from start to end: open, start, wait, reload, drain, close."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn

from forwarder.admin.control import Command, ControlSocket
from forwarder.admin.server import AdminServer
from forwarder.config import AdminSettings, Difference, ForwarderSettings, watched_files
from forwarder.core.errors import ConfigError, Fault, ForwarderError, NeedsOperatorError
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock, SystemClock
from forwarder.observe.events import (
    AdminListening,
    AdminTlsUnusable,
    SecretChanged,
    SettingsWarning,
    Started,
    Stopped,
    Stopping,
    TaskStuck,
)
from forwarder.observe.output import BackgroundWriter
from forwarder.runtime.cell import Cell
from forwarder.runtime.operations import Operations
from forwarder.runtime.reloading import Reloader, SecretWatch, SettingsReader
from forwarder.runtime.replica import (
    VERSION,
    Replica,
    Signals,
    Telemetry,
    fast_loop,
    libraries_logged,
    telemetry_of,
)
from forwarder.runtime.status import Overview
from forwarder.runtime.supervisor import Beat, Supervisor
from forwarder.runtime.workers import preflight
from forwarder.transport.tls import ServerTls

GRACE = 25.0
"""Seconds from the first signal to the end of the process."""
DONE, FAILED = 0, 1
_CLOSING = 4.0
"""Seconds of the grace that are kept for what follows the last write."""
_UPKEEP = 5.0
# Thresholds of the garbage collector. A page makes thousands of short-lived rows, none of them in
# a cycle: Python's own threshold would look for cycles at every 700 of them, mostly in vain.
_GARBAGE = (50_000, 20, 50)


def run_daemon(
    settings: ForwarderSettings, read_settings: SettingsReader, abort: Callable[[int], NoReturn]
) -> int:
    """Run until a signal and return the exit code.

    ``abort`` ends the process at once: after a second signal, or when the grace is over and
    something still hangs. Raises what ``Daemon.run`` raises.
    """
    preflight(settings)
    stderr = BackgroundWriter(sys.stderr)
    telemetry = telemetry_of(settings, stderr)

    def abort_now(code: int) -> NoReturn:
        stderr.drain()
        abort(code)

    try:
        with (
            libraries_logged(telemetry.observer),
            asyncio.Runner(loop_factory=fast_loop()) as runner,
        ):
            return runner.run(_main(settings, read_settings, telemetry, abort_now))
    finally:
        stderr.drain()


async def _main(
    settings: ForwarderSettings,
    read_settings: SettingsReader,
    telemetry: Telemetry,
    abort: Callable[[int], NoReturn],
) -> int:
    signals = Signals()
    daemon = Daemon(settings, read_settings, telemetry, signals, SystemClock())
    with signals.caught():
        running = asyncio.create_task(daemon.run(), name="daemon")
        insisted = asyncio.create_task(_patience(signals), name="patience")
        await asyncio.wait({running, insisted}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            # The last line is due in any case; nobody can count the backlog any more.
            telemetry.observer.emit(Stopped(settled=False, backlog=0))
            abort(FAILED)
        insisted.cancel()
        return DONE if running.result() else FAILED


async def _patience(signals: Signals) -> None:
    """Return when the process must not wait any longer."""
    await signals.stop.wait()
    try:
        await asyncio.wait_for(signals.insist.wait(), GRACE)
    except TimeoutError:
        return


class Daemon:
    """Runs the forwarder until a signal: one replica with one cell."""

    def __init__(
        self,
        settings: ForwarderSettings,
        read_settings: SettingsReader,
        telemetry: Telemetry,
        signals: Signals,
        clock: Clock,
    ) -> None:
        """Open nothing yet; ``read_settings`` is called at a reload."""
        self._replica = Replica(settings, telemetry, clock)
        self._read_settings = read_settings
        self._signals = signals
        self._tasks = Supervisor(clock, self._replica.random, self._replica.emit)
        self.admin_url = ""
        self.running = asyncio.Event()

    async def run(self) -> bool:
        """Run until a signal; return True if everything that was in flight has settled.

        Raises ``ConfigError``, ``LockedError``, ``DamagedError`` or ``StateError`` if it cannot
        start.
        """
        async with AsyncExitStack() as stack:
            cell = await stack.enter_async_context(Cell.opened(self._replica))
            stack.push_async_callback(self._tasks.stop_all)
            overview = Overview(self._replica, cell, self._tasks)
            reloader = Reloader(self._replica, cell, self._read_settings)
            # The admin server and the control socket come first: a slow start can be watched.
            await self._listen(stack, overview)
            control = ControlSocket(
                self._replica.settings.root.state_dir,
                daemon_commands(self._replica, cell, overview, reloader),
            )
            await control.start()
            stack.push_async_callback(control.aclose)
            await self._start(cell, overview)
            await self._serve(reloader)
            await self._wind_down(cell)
        return not cell.sinks.abandoned

    async def _listen(self, stack: AsyncExitStack, overview: Overview) -> None:
        admin = self._replica.settings.root.admin
        if admin.address is not None:
            tls = admin_tls(admin, self._replica.emit)
            server = AdminServer(overview, token=admin.token, tls=tls)
            self.admin_url = await server.start(*admin.address)
            stack.push_async_callback(server.aclose)
            self._replica.emit(AdminListening(self.admin_url))

    async def _start(self, cell: Cell, overview: Overview) -> None:
        replica, settings = self._replica, self._replica.settings
        for warning in (*settings.warnings, *cell.warnings):
            replica.emit(SettingsWarning(warning))
        await cell.start()
        watch = SecretWatch(
            lambda: watched_files(replica.settings),
            lambda file: self._secret_changed(cell, file),
            replica.clock,
        )
        self._tasks.start("secrets", watch.run)
        self._tasks.start("history", overview.watch)
        self._tasks.start("upkeep", lambda beat: self._upkeep(cell, overview, beat))
        streams = len(cell.streams.names)
        replica.emit(Started(VERSION, replica.config_hash, streams, len(settings.sinks)))
        # What was made so far lives as long as the process: the collector need not look at it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GARBAGE)
        self.running.set()

    async def _serve(self, reloader: Reloader) -> None:
        """Wait for the end; reload the settings whenever a signal requests it."""
        while not self._signals.stop.is_set():
            if await self._signals.wait():
                try:
                    await reloader.reload()
                except ConfigError:
                    continue  # it has been reported; the settings in force stay
                except ForwarderError as error:
                    # The journal cannot be written: what differs still differs at the next reload.
                    self._replica.report_journal(error, "the settings were not reloaded")

    async def _wind_down(self, cell: Cell) -> None:
        """Stop reading, let writes end, acknowledge; what was not delivered stays stored."""
        replica, observer = self._replica, self._replica.telemetry.observer
        replica.emit(Stopping(self._signals.reason, GRACE))
        backlog = await cell.wind_down(GRACE - _CLOSING)
        await self._tasks.stop_all()
        observer.flush()
        # In a thread: spans are sent to a collector that may not answer.
        await asyncio.to_thread(observer.close)
        replica.emit(Stopped(not cell.sinks.abandoned, backlog))

    async def _upkeep(self, cell: Cell, overview: Overview, beat: Beat) -> None:
        """Maintain the cell, report stuck tasks, write log lines that were held back; for ever."""
        while True:
            beat()
            await self._replica.clock.sleep(_UPKEEP)
            await cell.maintain()
            for task in overview.tasks():
                if task.stuck:
                    self._replica.emit(TaskStuck(task.name, task.silent))
            self._replica.telemetry.observer.flush()

    def _secret_changed(self, cell: Cell, file: Path) -> None:
        self._replica.emit(SecretChanged(str(file)))
        cell.wake()


def daemon_commands(
    replica: Replica, cell: Cell, overview: Overview, reloader: Reloader
) -> dict[str, Command]:
    """Return what the control socket of a running daemon offers: the operations and more."""

    async def status(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return await overview.status()

    async def reload(_: Mapping[str, Any]) -> Mapping[str, Any]:
        difference = await reloader.reload()
        return {
            "sinks": _plain(difference.sinks),
            "streams": _plain(difference.streams),
            "needs_restart": difference.needs_restart,
        }

    async def wake(_: Mapping[str, Any]) -> Mapping[str, Any]:
        cell.wake()
        return {}

    return {
        **Operations(replica, cell).table(),
        "status": status,
        "reload": reload,
        "wake": wake,
    }


def _plain(difference: Difference) -> dict[str, list[str]]:
    return {
        name: [str(item) for item in getattr(difference, name)]
        for name in ("added", "changed", "removed")
    }


def admin_tls(settings: AdminSettings, emit: Emit) -> ssl.SSLContext | None:
    """Return what the admin server listens with, None for plain HTTP.

    Raises ``ConfigError`` if the files cannot be used now; a renewal that cannot be used is
    reported and the certificate that was there before is kept.
    """
    if settings.server_tls is None:
        return None

    def on_trouble(error: NeedsOperatorError) -> None:
        emit(AdminTlsUnusable(str(error), error.hint))

    try:
        return ServerTls(settings.server_tls).listening(on_trouble)
    except NeedsOperatorError as error:
        raise ConfigError([Fault("admin.tls", str(error), error.hint)]) from error
