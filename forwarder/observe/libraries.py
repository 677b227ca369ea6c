"""What libraries log, as happenings: counted, kept from repeating, redacted like our own."""

from __future__ import annotations

import logging

from forwarder.core.telemetry import Emit
from forwarder.observe.events import LibraryWarned

_ECHOES = ("aiokafka",)
"""Libraries that log what they also raise, each in several places: the sink's own line says it."""


class LibraryHandler(logging.Handler):
    """Passes warnings and errors of libraries on; what they chat below that is dropped."""

    def __init__(self, report: Emit) -> None:
        """Tell ``report``."""
        super().__init__(logging.WARNING)
        self._emit = report

    def emit(self, record: logging.LogRecord) -> None:
        """Report one record; called by ``logging`` in any thread."""
        echoes = record.name.partition(".")[0] in _ECHOES
        self._emit(
            LibraryWarned(
                library=record.name,
                message=record.getMessage(),
                where=record.module if echoes else f"{record.module}:{record.lineno}",
                severe=record.levelno >= logging.ERROR and not echoes,
                error=record.exc_info[1] if record.exc_info else None,
            )
        )
