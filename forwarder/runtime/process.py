"""One process: its event loop, its signals, its logs, its way to end."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from prometheus_client import disable_created_metrics

from forwarder.config import ForwarderSettings, secrets_of
from forwarder.core.timing import SystemClock
from forwarder.observe.events import Stopped
from forwarder.observe.metrics import Metrics
from forwarder.observe.observer import LibraryHandler, Observer
from forwarder.observe.output import LogOutput, Redactor
from forwarder.runtime.daemon import GRACE, Daemon
from forwarder.runtime.observers import observer_of
from forwarder.runtime.parts import SettingsReader, Telemetry
from forwarder.runtime.signals import Signals
from forwarder.runtime.workers import preflight

DONE, FAILED = 0, 1
T = TypeVar("T")


def run_daemon(
    settings: ForwarderSettings, read_settings: SettingsReader, abort: Callable[[int], NoReturn]
) -> int:
    """Run until a signal and return the exit code.

    ``abort`` ends the process on the spot: after a second signal, or when the grace is over and
    something still hangs. Raises what ``Daemon.run`` raises.
    """
    preflight(settings)
    telemetry = telemetry_of(settings)
    with libraries_logged(telemetry.observer), asyncio.Runner(loop_factory=fast_loop()) as runner:
        return runner.run(_main(settings, read_settings, telemetry, abort))


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


def telemetry_of(settings: ForwarderSettings) -> Telemetry:
    """Return where this process counts and logs."""
    log = settings.root.log
    redactor = Redactor(secret for _, secret in secrets_of(settings))
    output = LogOutput(sys.stderr, redactor, level=log.level, style=log.format)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics = Metrics()
    observer = observer_of(settings.root.tracing, metrics, output, SystemClock())
    return Telemetry(observer, metrics, output, redactor)


@contextmanager
def libraries_logged(observer: Observer) -> Iterator[None]:
    """Pass the warnings of libraries on to our log while the block runs."""
    root, handler = logging.getLogger(), LibraryHandler(observer.emit)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def run_fast(work: Coroutine[Any, Any, T]) -> T:
    """Run one coroutine on the loop that the daemon has, so that errors read alike."""
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        return runner.run(work)


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory where it is installed; else None for asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
