"""Signals: TERM and INT ask for an end, a second one insists, HUP asks for new settings."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_ENDING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """What the process was asked to do by signals."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.stop = asyncio.Event()
        self.insist = asyncio.Event()
        self.reload = asyncio.Event()
        self.reason = ""

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals while the block runs."""
        loop = asyncio.get_running_loop()
        for number in _ENDING:
            loop.add_signal_handler(number, self._end, number.name)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)
        try:
            yield
        finally:
            for number in (*_ENDING, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _end(self, name: str) -> None:
        if self.stop.is_set():
            self.insist.set()
        self.reason = self.reason or name
        self.stop.set()

    def ask_to_stop(self, reason: str) -> None:
        """Ask for an end from inside the process."""
        self.reason = self.reason or reason
        self.stop.set()


async def first(*events: asyncio.Event) -> None:
    """Return when one of the events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
