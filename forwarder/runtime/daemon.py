"""The daemon from start to end: open, start, wait, reload, drain, close.

What follows a change of files while it runs is here too: the settings, and secrets. So is what
commands do that find no daemon: they open the cell themselves.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from forwarder.admin.control import Command, ControlSocket
from forwarder.admin.server import AdminServer
from forwarder.config import (
    AdminSettings,
    Changes,
    Difference,
    ForwarderSettings,
    RootSettings,
    changes,
    watched_files,
)
from forwarder.core.errors import ConfigError, Fault, ForwarderError, NeedsOperatorError
from forwarder.core.own_events import Own
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock, SystemClock
from forwarder.observe.events import (
    AdminListening,
    AdminTlsUnusable,
    SecretChanged,
    SettingsReloaded,
    SettingsWarning,
    Started,
    Stopped,
    Stopping,
    TaskStuck,
)
from forwarder.observe.output import BackgroundWriter
from forwarder.runtime.cell import Cell, Operations
from forwarder.runtime.replica import (
    VERSION,
    Beat,
    Replica,
    Signals,
    Supervisor,
    Telemetry,
    fast_loop,
    libraries_logged,
    run_fast,
    telemetry_of,
)
from forwarder.runtime.status import Overview
from forwarder.runtime.workers import preflight
from forwarder.transport.tls import ServerTls

SettingsReader: TypeAlias = Callable[[], ForwarderSettings]
"""Reads the settings from their file; raises ``ConfigError`` with every fault."""
OnProgress: TypeAlias = Callable[[Mapping[str, Any]], None]
"""Takes the status as JSON values."""
Stamp: TypeAlias = tuple[int, int, int] | None

GRACE = 25.0
"""Seconds from the first signal to the end of the process."""
DONE, FAILED = 0, 1
_CLOSING = 4.0
"""Seconds of the grace that are kept for what follows the last write."""
_UPKEEP = 5.0
_SECRETS = 2.0
_LOOK = 0.3
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


class Reloader:
    """Puts new settings into force: what differs is changed, the rest is not touched."""

    def __init__(self, replica: Replica, cell: Cell, read: SettingsReader) -> None:
        """Read nothing yet."""
        self._replica = replica
        self._cell = cell
        self._read = read
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> Changes:
        """Read the settings and apply what differs.

        Raises ``ConfigError`` if they have faults; then nothing has changed.
        """
        async with self._one_at_a_time:
            # In a thread: files of secrets may be on a slow or hanging file system.
            try:
                new = await asyncio.to_thread(self._read)
                preflight(new)
            except ConfigError as error:
                self._replica.refuse(tuple(str(fault) for fault in error.faults))
                raise
            old = self._replica.settings
            difference = changes(old, new)
            new = replace(new, root=_kept(old, new))
            self._replica.learn(new)
            await self._cell.change(difference, new)
            self._replica.adopt(new, difference.needs_restart)
            await self._report(difference)
            return difference

    async def _report(self, difference: Changes) -> None:
        replica = self._replica
        for warning in replica.settings.warnings:
            replica.emit(SettingsWarning(warning))
        replica.emit(
            SettingsReloaded(
                replica.config_hash,
                _words(difference.sinks, str),
                _words(difference.streams, lambda key: replica.scope_name(str(key))),
                difference.needs_restart,
            )
        )
        await self._cell.note(Own.CONFIG_RELOADED, replica.config_hash)


def _kept(old: ForwarderSettings, new: ForwarderSettings) -> RootSettings:
    """Return the new root with the values that only a restart can change left as they are.

    They are compared again at the next reload, so that ``needs_restart`` names them until then.
    """
    kept = {key: getattr(old.root, key) for key in ("state_dir", "journal", "admin", "tracing")}
    log = new.root.log.model_copy(update={"format": old.root.log.format})
    return new.root.model_copy(update={**kept, "log": log})


def _words(difference: Difference, name_of: Callable[[Any], str]) -> tuple[str, ...]:
    """Return ``added NAME``, ``changed NAME`` and ``removed NAME`` for each difference."""
    return tuple(
        f"{what} {name_of(item)}"
        for what in ("added", "changed", "removed")
        for item in getattr(difference, what)
    )


class SecretWatch:
    """Notices secret files that change, so that a new token ends a failure at once.

    It compares what the names lead to: Kubernetes changes a mounted secret by swapping a link, so
    a watch on the files themselves would see nothing.
    """

    def __init__(
        self,
        files: Callable[[], Iterable[Path]],
        on_change: Callable[[Path], None],
        clock: Clock,
    ) -> None:
        """Call ``files`` each time, since a reload may change them."""
        self._files = files
        self._on_change = on_change
        self._clock = clock

    async def run(self, beat: Callable[[], None]) -> None:
        """Watch for ever."""
        known = await asyncio.to_thread(stamps, set(self._files()))
        while True:
            beat()
            await self._clock.sleep(_SECRETS)
            now = await asyncio.to_thread(stamps, set(self._files()))
            for file in changed(known, now):
                self._on_change(file)
            # A file that is away for a moment keeps its stamp: it may come back changed.
            known = {file: stamp or known.get(file) for file, stamp in now.items()}


def stamps(files: Iterable[Path]) -> dict[Path, Stamp]:
    """Return modification time, size and inode of each file; None for one that is not there."""
    return {file: _stamp(file) for file in files}


def changed(before: Mapping[Path, Stamp], now: Mapping[Path, Stamp]) -> list[Path]:
    """Return the files that are there and differ from before; a missing file has not changed."""
    return [
        file
        for file, stamp in now.items()
        if file in before and stamp is not None and stamp != before[file]
    ]


def _stamp(file: Path) -> Stamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def carry_out(settings: ForwarderSettings, name: str, given: Mapping[str, Any]) -> Any:
    """Carry out one operation (see ``Operations.table``) while no daemon runs; return its answer.

    Raises ``LockedError`` if a daemon starts meanwhile, and what the operation raises.
    """

    async def work() -> Mapping[str, Any]:
        async with _alone(settings) as (replica, cell):
            await cell.sinks.join(settings.sinks)
            return await Operations(replica, cell).table()[name](given)

    return run_fast(work())


def backfill(
    settings: ForwarderSettings, given: Mapping[str, Any], progress: OnProgress
) -> Mapping[str, Any]:
    """Read a backfill and deliver it while no daemon runs; return when every sink has it.

    ``progress`` is called with the status now and then. If interrupted, the backfill continues
    when a daemon starts.
    """

    async def work() -> Mapping[str, Any]:
        async with _alone(settings) as (replica, cell):
            overview = Overview(replica, cell)
            await cell.sinks.join(settings.sinks)
            await cell.streams.start(settings.accounts, poll=False)
            cell.sinks.start(sink.name for sink in settings.sinks)
            answer = await Operations(replica, cell).table()["backfill"](given)
            # Open until the sinks have everything; the reading ends earlier.
            while await cell.backfills.is_open(answer["lane"]):
                progress(await overview.status())
                await asyncio.sleep(_LOOK)
            progress(await overview.status())
            await cell.streams.stop()
            await cell.sinks.drain(cell.sinks.settings, GRACE - _CLOSING)
            return await cell.backfills.rows(answer)

    return run_fast(work())


@asynccontextmanager
async def _alone(settings: ForwarderSettings) -> AsyncIterator[tuple[Replica, Cell]]:
    """Open the journal, which takes its lock; nothing runs yet."""
    telemetry = telemetry_of(settings)
    replica = Replica(settings, telemetry, SystemClock())
    with libraries_logged(telemetry.observer):
        async with Cell.opened(replica) as cell:
            yield replica, cell


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
