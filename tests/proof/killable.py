"""``forwarder run`` that ends itself with SIGKILL when a named point is reached the n-th time.

The daemon is composed as ``forwarder run`` composes it. Points are happenings, which the daemon
reports anyway, and SQL statements, which SQLite tells to a trace callback; no code is replaced.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from forwarder.cli.options import settings_from
from forwarder.core.clock import SystemClock
from forwarder.core.happenings import Happening
from forwarder.observe import Observer
from forwarder.runtime.daemon import Daemon
from forwarder.runtime.preflight import preflight
from forwarder.runtime.process import fast_loop, libraries_logged, telemetry_of
from forwarder.runtime.signals import Signals

HAPPENINGS = {
    "page fetched": "RequestMade",
    "page committed": "PageStored",
    "round ended": "RoundEnded",
    "sink opened": "SinkOpened",
    "answer received": "BatchSettled",
    "journal pruned": "JournalPruned",
}
STATEMENTS = {
    "transaction opens": ("BEGIN IMMEDIATE",),
    "rows go in": ("INSERT INTO page",),
    "position goes in": ("INSERT INTO page", "INSERT OR REPLACE INTO reader"),
    "rows and position before commit": ("INSERT OR REPLACE INTO reader", "COMMIT"),
    "offset goes in": ("UPDATE progress",),
    "offset before commit": ("UPDATE progress", "COMMIT"),
    "offset stored": ("UPDATE progress", "COMMIT", "BEGIN IMMEDIATE"),
    "dead letter goes in": ("INSERT OR IGNORE INTO dead_letter",),
    "prune empties": ("UPDATE page SET size = 0",),
    "prune removes": ("DELETE FROM page",),
    "prune before commit": ("UPDATE page SET size = 0", "COMMIT"),
}
POINTS = (*HAPPENINGS, *STATEMENTS)


class Countdown:
    """Ends the process when it was told ``times`` times."""

    def __init__(self, times: int) -> None:
        self._left = times

    def __call__(self) -> None:
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    """An observer that also looks for one kind of happening."""

    def __init__(self, observer: Observer, wanted: str, reached: Callable[[], None]) -> None:
        self._observer, self._wanted, self._reached = observer, wanted, reached
        self.flush = observer.flush

    def report(self, happening: Happening) -> None:
        if type(happening).__name__ == self._wanted:
            self._reached()
        self._observer.report(happening)


class Steps:
    """Follows the statements of one connection through a sequence."""

    def __init__(self, wanted: tuple[str, ...], reached: Callable[[], None]) -> None:
        self._wanted, self._reached, self._next = wanted, reached, 0

    def __call__(self, statement: str) -> None:
        if statement.startswith(self._wanted[self._next]):
            self._next += 1
        if self._next == len(self._wanted):
            self._next = 0
            self._reached()


def trace_connections(wanted: tuple[str, ...], reached: Callable[[], None]) -> None:
    """Follow the statements of every SQLite connection that is opened from now on."""
    fresh: list[sqlite3.Connection] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "sqlite3.connect/handle":
            fresh.append(arguments[0])
            return
        for connection in list(fresh):
            try:
                fresh.remove(connection)
                connection.set_trace_callback(Steps(wanted, reached))
            except sqlite3.ProgrammingError:  # not ready before its constructor has returned
                fresh.append(connection)

    sys.addaudithook(hook)


async def run(config: Path, point: str, times: int) -> None:
    """Run the daemon until it kills itself, or is stopped."""
    settings, reached = settings_from(config), Countdown(times)
    preflight(settings)
    if point in STATEMENTS:
        trace_connections(STATEMENTS[point], reached)
    telemetry = telemetry_of(settings)
    watched: Any = Watched(telemetry.observer, HAPPENINGS.get(point, ""), reached)
    telemetry = replace(telemetry, observer=watched)
    signals = Signals()
    with signals.caught(), libraries_logged(telemetry.observer):
        await Daemon(
            settings, lambda: settings_from(config), telemetry, signals, SystemClock()
        ).run()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-c", "--config", type=Path, required=True)
    parser.add_argument("--at", default="")
    parser.add_argument("--times", type=int, default=1)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(run(given.config, given.at, given.times))


if __name__ == "__main__":
    main()
