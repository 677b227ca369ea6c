"""What a library logs and raises as well is one warning a minute, wherever it says it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from forwarder.core.telemetry import TelemetryEvent
from forwarder.observe.events import LibraryWarned
from forwarder.observe.observer import LibraryHandler


@pytest.fixture
def heard() -> list[TelemetryEvent]:
    return []


@pytest.fixture
def log(heard: list[TelemetryEvent]) -> Callable[[str, int, int], None]:
    handler = LibraryHandler(heard.append)

    def emit(name: str, level: int, line: int) -> None:
        record = logging.LogRecord(name, level, "/lib/client.py", line, "no broker", (), None)
        handler.handle(record)

    return emit


def test_places_of_an_echoing_library_are_one_and_never_an_error(
    log: Callable[[str, int, int], None], heard: list[TelemetryEvent]
) -> None:
    log("aiokafka", logging.ERROR, 216)
    log("aiokafka.conn", logging.WARNING, 222)

    assert heard == [
        LibraryWarned("aiokafka", "no broker", "client", severe=False, error=None),
        LibraryWarned("aiokafka.conn", "no broker", "client", severe=False, error=None),
    ]


def test_an_error_of_any_other_library_keeps_its_place_and_weight(
    log: Callable[[str, int, int], None], heard: list[TelemetryEvent]
) -> None:
    log("asyncio", logging.ERROR, 1)

    assert heard == [LibraryWarned("asyncio", "no broker", "client:1", severe=True, error=None)]
