"""A progress bar for backfills: how far, how many rows, how fast, how long still."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from forwarder.core.timestamps import parse_us

_KIND = "backfill:"


class Bar:
    """Draws on stderr while the block runs."""

    def __init__(self) -> None:
        """Draw nothing yet."""
        self.rows = 0
        self._began = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rows]} rows, {task.fields[rate]:.0f}/s"),
            TextColumn("{task.fields[left]} to deliver"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("backfill", total=1.0, rows=0, rate=0.0, left=0)

    def __enter__(self) -> Self:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture on the screen."""
        self._progress.stop()

    def show(self, status: Mapping[str, Any]) -> None:
        """Draw a status as the daemon gives it."""
        reading = status["backfills"]
        if reading:
            self.rows = sum(one["rows"] for one in reading)
        done = sum(map(_share, reading)) / len(reading) if reading else 1.0
        spent = max(0.001, time.monotonic() - self._began)
        left = sum(lane["backlog_events"] for lane in _lanes(status, _KIND))
        self._progress.update(
            self._task, completed=done, rows=self.rows, rate=self.rows / spent, left=left
        )


def is_open(status: Mapping[str, Any], lane: str) -> bool:
    """Return whether a lane is still read or delivered."""
    reading = any(one["lane"] == lane for one in status["backfills"])
    return reading or bool(_lanes(status, lane))


def _lanes(status: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [
        lane for sink in status["sinks"] for lane in sink["lanes"] if lane["lane"].startswith(name)
    ]


def _share(one: Mapping[str, str]) -> float:
    """Return how much of the window is read, 0 to 1."""
    since, until, done = (parse_us(one[key]) or 0 for key in ("since", "until", "done_until"))
    return 1.0 if until <= since else (done - since) / (until - since)
