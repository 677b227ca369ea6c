"""Lines of libraries pass through the same gate, and a terminal gets columns."""

from __future__ import annotations

import io
import logging

import orjson

from forwarder.observe import LogOutput, Redactor
from forwarder.observe.lines import Level


def test_a_librarys_warning_becomes_a_line() -> None:
    stream = io.StringIO()
    logger = logging.getLogger("aiolib")
    logger.addHandler(LogOutput(stream, Redactor(), style="json").capture_libraries())

    logger.info("chatter")
    logger.warning("odd: %s", 7)

    (line,) = [orjson.loads(text) for text in stream.getvalue().splitlines()]
    assert (line["event"], line["library"], line["message"]) == ("library", "aiolib", "odd: 7")


def test_what_is_no_terminal_gets_json_and_a_terminal_columns() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        LogOutput(stream, Redactor()).write(Level.INFO, "started", {"sinks": 1})

    assert plain.getvalue().startswith("{")
    assert not terminal.getvalue().startswith("{")
    assert "started" in terminal.getvalue()
