"""The daemon from start to end: open, start, wait, reload, drain, close."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn

from forwarder.admin.control import Command, ControlSocket
from forwarder.admin.server import AdminServer
from forwarder.config import AdminSettings, Difference, ForwarderSettings, watched_files
from forwarder.core.errors import (
    ConfigError,
    ForwarderError,
    NeedsOperatorError,
)
from forwarder.core.lease import Fleet, Lease
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock, SystemClock
from forwarder.observe.events import (
    AdminListening,
    AdminTlsUnusable,
    SecretChanged,
    SettingsWarning,
    StandingBy,
    Started,
    Stopped,
    Stopping,
    TaskStuck,
)
from forwarder.observe.output import BackgroundWriter
from forwarder.runtime import pushes
from forwarder.runtime.anywhere import routed
from forwarder.runtime.cell import Cell, Seat
from forwarder.runtime.opening import fleet_of
from forwarder.runtime.operations import Operations, Requests
from forwarder.runtime.reloading import FileWatch, Reloader, SettingsReader, stamps
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
from forwarder.runtime.turns import Turns
from forwarder.runtime.workers import preflight
from forwarder.transport.listening import protection

GRACE = 25.0
"""Seconds from the first signal to the end of the process."""
DONE, FAILED = 0, 1
_CLOSING = 4.0
"""Seconds of the grace that are kept for what follows the last write."""
_UPKEEP = 5.0
_OWN_OUTPUT = "sinks.{name}: each replica writes the events of its shards to its own output"
# Thresholds of the garbage collector. A page makes thousands of short-lived rows, none of them in
# a cycle: Python's own threshold would look for cycles at every 700 of them, and find almost none.
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
    """Runs the forwarder until a signal: one replica, with a cell for each shard that it owns.

    Implements ``turns.Host``.
    """

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
        self._signals = signals
        self._tasks = Supervisor(clock, self._replica.random, self._replica.emit)
        self._seat = Seat()
        self._overview = Overview(self._replica, self._seat, self._tasks)
        self._reloader = Reloader(self._replica, self._seat, read_settings)
        files = [] if settings.path is None else [settings.path]
        self._settings_watch = FileWatch(
            lambda: files, self._settings_changed, clock, stamps(files)
        )
        self._stopped = Stopped(settled=True, backlog=0)
        self.admin_url = ""
        self.running = asyncio.Event()

    async def run(self) -> bool:
        """Run until a signal; return True if everything that was in flight has settled.

        Raises ``ConfigError``, ``LockedError``, ``DamagedError`` or ``StateError`` if it cannot
        start.
        """
        async with AsyncExitStack() as stack:
            replica = self._replica
            fleet = await stack.enter_async_context(fleet_of(replica.settings, clock=replica.clock))
            if fleet is not None:
                await self._offer(stack, fleet)
                return await self._in_turns(fleet)
            cell = await stack.enter_async_context(Cell.opened(replica))
            self._seat.fill(cell)
            await self._offer(stack)
            await self.start(cell)
            self._start_tasks()
            await self._serve()
            await self.wind_down(cell)
            await self._finish()
        return self._stopped.settled

    async def _offer(self, stack: AsyncExitStack, fleet: Fleet | None = None) -> None:
        """Answer probes and commands, before anything starts: a slow start can be watched."""
        stack.push_async_callback(self._tasks.stop_all)
        await self._listen(stack)
        control = ControlSocket(self._replica.settings.root.state_dir, self._commands(fleet))
        await control.start()
        stack.push_async_callback(control.aclose)

    async def _in_turns(self, fleet: Fleet) -> bool:
        """Work on shards of a shared journal while this replica has some, until a signal."""
        self._replica.emit(StandingBy(VERSION, self._replica.config_hash))
        for sink in self._replica.settings.sinks:
            if sink.type == "stdout":
                self._replica.emit(SettingsWarning(_OWN_OUTPUT.format(name=sink.name)))
        self._start_tasks()
        turns = Turns(self._replica, self._seat, fleet, self)
        serving = asyncio.create_task(self._serve(), name="serve")
        try:
            await turns.run(serving)
            await serving  # if no signal has ended it, its error does
        finally:
            serving.cancel()
        await self._finish()
        return self._stopped.settled

    async def _listen(self, stack: AsyncExitStack) -> None:
        admin = self._replica.settings.root.admin
        if admin.address is not None:
            tls = admin_tls(admin, self._replica.emit)
            server = AdminServer(self._overview, token=admin.token, tls=tls)
            self.admin_url = await server.start(*admin.address)
            stack.push_async_callback(server.aclose)
            self._replica.listens(admin_url=self.admin_url)
            self._replica.emit(AdminListening(self.admin_url))
        receiver = await pushes.listen(self._replica, self._seat)
        if receiver is not None:
            stack.push_async_callback(receiver.aclose)

    async def start(self, cell: Cell) -> None:
        """Read and deliver with a cell; the first one has started the forwarder."""
        replica, settings = self._replica, self._replica.settings
        for warning in cell.warnings:
            replica.emit(SettingsWarning(warning))
        await cell.start()
        if self.running.is_set():
            return
        for warning in settings.warnings:
            replica.emit(SettingsWarning(warning))
        streams = len(cell.streams.names)
        replica.emit(Started(VERSION, replica.config_hash, streams, len(settings.sinks)))
        # What was made so far lives as long as the process: the collector need not look at it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GARBAGE)
        self.running.set()

    def _start_tasks(self) -> None:
        """Start what the process does beside its cells."""
        replica = self._replica
        secrets = FileWatch(
            lambda: watched_files(replica.settings), self._secret_changed, replica.clock
        )
        self._tasks.start("secrets", secrets.run)
        self._tasks.start("settings", self._settings_watch.run)
        self._tasks.start("history", self._overview.watch)
        self._tasks.start("upkeep", self._upkeep)

    async def _serve(self) -> None:
        """Wait for the end; reload the settings whenever a signal requests it."""
        while not self._signals.stop.is_set():
            if await self._signals.wait():
                try:
                    await self._reloader.reload()
                except ConfigError:
                    continue  # it has been reported; the settings in force stay
                except ForwarderError as error:
                    # The database does not say which shard has a new account.
                    self._replica.report_journal(error, "the settings are reloaded later")
                    asyncio.get_running_loop().call_later(_UPKEEP, self._signals.ask_to_reload)
        self._replica.emit(Stopping(self._signals.reason, GRACE))

    async def wind_down(self, cell: Cell) -> None:
        """Stop reading, let writes end, acknowledge; what was not delivered stays stored."""
        backlog = await cell.wind_down(GRACE - _CLOSING)
        settled = self._stopped.settled and not cell.sinks.abandoned
        self._stopped = Stopped(settled, self._stopped.backlog + backlog)

    async def _finish(self) -> None:
        """Write the last lines."""
        observer = self._replica.telemetry.observer
        await self._tasks.stop_all()
        observer.flush()
        # In a thread: spans are sent to a collector that may not answer.
        await asyncio.to_thread(observer.close)
        self._replica.emit(self._stopped)

    async def _upkeep(self, beat: Beat) -> None:
        """Report stuck tasks, and write log lines that were held back; for ever."""
        while True:
            beat()
            await self._replica.clock.sleep(_UPKEEP)
            for task in self._overview.tasks():
                if task.stuck:
                    self._replica.emit(TaskStuck(task.name, task.silent))
            self._replica.telemetry.observer.flush()

    def _settings_changed(self, _: Path) -> None:
        if self._replica.settings.root.reload_on_change:
            self._signals.ask_to_reload()

    def _secret_changed(self, file: Path) -> None:
        self._replica.emit(SecretChanged(str(file)))
        for cell in self._seat.cells.values():
            cell.wake()

    def requests(self, lease: Lease) -> Callable[[Beat], Awaitable[None]]:
        """Return what carries out the requests of commands elsewhere to the owner of a shard."""
        operations = Operations(self._replica, self._seat, lease.shard).table()
        table = {**operations, "status": self._status}
        return Requests(lease, table, self._replica.clock).run

    def _commands(self, fleet: Fleet | None) -> dict[str, Command]:
        """Return what the control socket of a running daemon offers: the operations and more."""
        replica, seat = self._replica, self._seat
        return {
            **(
                Operations(replica, seat).table() if fleet is None else routed(replica, seat, fleet)
            ),
            "status": self._status,
            "reload": self._reload,
            "wake": self._wake,
        }

    async def _status(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self._overview.status()

    async def _reload(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        difference = await self._reloader.reload()
        return {
            "sinks": _plain(difference.sinks),
            "streams": _plain(difference.streams),
            "needs_restart": difference.needs_restart,
        }

    async def _wake(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        for cell in self._seat.cells.values():
            cell.wake()
        return {}


def _plain(difference: Difference) -> dict[str, list[str]]:
    return {
        name: [str(item) for item in getattr(difference, name)]
        for name in ("added", "changed", "removed")
    }


def admin_tls(settings: AdminSettings, emit: Emit) -> ssl.SSLContext | None:
    """Return what the admin server serves HTTPS with; see ``transport.listening.protection``."""

    def on_trouble(error: NeedsOperatorError) -> None:
        emit(AdminTlsUnusable(str(error), error.hint))

    return protection("admin", settings.tls, on_trouble, emit)
