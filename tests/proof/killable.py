"""``forwarder run`` that is killed, stopped, or finds the disk full at a named point.

The daemon is composed as ``forwarder run`` composes it. Points are happenings, which the daemon
reports anyway, and SQL statements, which SQLite tells to a trace callback and ``followed`` hears
from PostgreSQL's connections; no code is replaced. Only ``--swallow`` and ``--fault`` plant
mistakes: a journal that takes a full disk for success, or one of ``followed.FAULTS``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from forwarder.cli.access import settings_from
from forwarder.core.telemetry import TelemetryEvent
from forwarder.core.timing import SystemClock
from forwarder.journal import journal
from forwarder.observe.observer import Observer
from forwarder.runtime.daemon import Daemon
from forwarder.runtime.replica import Signals, fast_loop, libraries_logged, telemetry_of
from forwarder.runtime.workers import preflight
from tests.proof import followed
from tests.proof.planted import SwallowingWriter, release_before_the_drain

ANSWER = "answer received"
EVENTS = {
    "page fetched": "RequestMade",
    "page committed": "PageStored",
    "round ended": "RoundEnded",
    "sink opened": "SinkOpened",
    ANSWER: "BatchSettled",
    "journal pruned": "JournalPruned",
}
STATEMENTS = {
    "transaction opens": ("BEGIN IMMEDIATE",),
    "rows go in": ("INSERT INTO page",),
    "position goes in": ("INSERT INTO page", "INSERT INTO reader"),
    "rows and position before commit": ("INSERT INTO reader", "COMMIT"),
    "offset goes in": ("UPDATE progress",),
    "offset before commit": ("UPDATE progress", "COMMIT"),
    "offset stored": ("UPDATE progress", "COMMIT", "BEGIN IMMEDIATE"),
    "dead letter goes in": ("INSERT INTO dead_letter",),
    "prune empties": ("UPDATE page SET size = 0",),
    "prune removes": ("DELETE FROM page",),
    "prune before commit": ("UPDATE page SET size = 0", "COMMIT"),
}
POINTS = (*EVENTS, *STATEMENTS)


class Countdown:
    """Does what was planned when it was called ``times`` times, once."""

    def __init__(self, times: int, plan: Callable[[], None]) -> None:
        self._left, self._plan = times, plan

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._plan()


class Orders:
    """Does what a file says, once: a point, at which time it is there, and a deed.

    A file that is there is taken up with the next point of any name.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._point = ""
        self._countdown = Countdown(0, lambda: None)
        self._lock = threading.Lock()

    def reached(self, point: str) -> None:
        """Count, from any thread."""
        with self._lock:
            if self._file.is_file():
                self._point, times, deed = self._file.read_text().split(":")
                self._file.unlink()
                self._countdown = Countdown(int(times), DEEDS[deed])
            if point == self._point:
                self._countdown()


def die() -> None:
    """End the process."""
    os.kill(os.getpid(), signal.SIGKILL)


def freeze() -> None:
    """Stop the process, all threads of it, until somebody continues it."""
    # By way of this thread: sent to the process, it would let this thread run on for a moment.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def fill_the_disk() -> None:
    """Let no write to any file succeed from now on; the test lifts the limit."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))


DEEDS = {"kill": die, "stop": freeze, "fill": fill_the_disk}


class Watched:
    """An observer that also looks for one kind of happening."""

    def __init__(self, observer: Observer, wanted: str, reached: Callable[[], None]) -> None:
        self._observer, self._wanted, self._reached = observer, wanted, reached
        self.flush, self.close = observer.flush, observer.close

    def emit(self, happening: TelemetryEvent) -> None:
        if type(happening).__name__ == self._wanted:
            self._reached()
        self._observer.emit(happening)


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


async def run(config: Path, point: str, reached: Callable[[], None]) -> None:
    """Run the daemon until it is stopped or killed; ``reached`` is called at every such point."""
    settings = settings_from(config)
    preflight(settings)
    if settings.root.journal.type == "sqlite" and point in STATEMENTS:
        trace_connections(STATEMENTS[point], reached)
    telemetry = telemetry_of(settings)
    watched: Any = Watched(telemetry.observer, EVENTS.get(point, ""), reached)
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
    parser.add_argument("--do", choices=DEEDS, default="kill")
    parser.add_argument("--swallow", action="store_true")
    parser.add_argument("--fault", default="")
    parser.add_argument("--orders", type=Path, default=Path())
    given = parser.parse_args()
    if given.swallow:
        vars(journal)["Writer"] = SwallowingWriter
    if given.fault == "release before the drain":
        release_before_the_drain()
    reached: Callable[[], None] = Countdown(given.times, DEEDS[given.do])
    orders = Orders(given.orders)
    if given.orders.name:
        reached = partial(orders.reached, given.at)
    followed.follow(
        lambda: [
            Steps(steps, partial(orders.reached, name)) for name, steps in followed.POINTS.items()
        ],
        given.fault,
    )
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(run(given.config, given.at, reached))


if __name__ == "__main__":
    main()
