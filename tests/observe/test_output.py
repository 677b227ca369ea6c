"""A terminal gets columns, everything else JSON."""

from __future__ import annotations

import io

from forwarder.core.telemetry import Level
from forwarder.observe.output import LogOutput, Redactor


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
