"""A terminal gets columns, everything else JSON; a reader that stalls costs lines, not time."""

from __future__ import annotations

import fcntl
import io
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest

from forwarder.core.telemetry import Level
from forwarder.observe.events import SettingsWarning
from forwarder.observe.metrics import Metrics
from forwarder.observe.observer import Observer
from forwarder.observe.output import BackgroundWriter, LogOutput, Redactor
from forwarder.testing.clock import FakeClock
from forwarder.transport.settings import Secret


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


def test_the_latest_warnings_and_errors_are_kept_as_they_were_written() -> None:
    output = LogOutput(io.StringIO(), Redactor([Secret("hush-hush")]), style="json")
    output.write(Level.INFO, "started", {})
    for number in range(25):
        output.write(Level.WARNING, "away", {"number": number})
    output.write(Level.ERROR, "broken", {"said": "hush-hush"}, ValueError("of a row"))
    kept = output.troubles()

    assert [*range(6, 25)] == [line["number"] for line in kept[:-1]]
    assert ("broken", "error") == (kept[-1]["event"], kept[-1]["level"])
    assert "hush" not in str(kept)
    assert "exception" not in kept[-1]


def test_what_json_cannot_hold_costs_no_line_and_raises_nothing() -> None:
    stream = io.StringIO()
    fields = {"path": "tok\udcffen", "count": 2**64, "by\ud800": {1: "x"}}
    LogOutput(stream, Redactor(), style="json").write(Level.INFO, "started", fields)
    line = orjson.loads(stream.getvalue().replace(str(2**64), "64"))

    assert (line["path"], line["count"], line["by?"]) == ("tok?en", 64, {"1": "x"})


class Pipe:
    """A pipe of 4 KiB as stderr, which is full, and which nobody reads until a test does.

    With room in it, the thread may finish its first lines after others were dropped.
    """

    def __init__(self) -> None:
        self._read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(self._read, False)
        os.write(write, b" " * 4095 + b"\n")
        self._stderr = os.fdopen(write, "w")
        self.writer = BackgroundWriter(self._stderr, most_waiting=10_000)
        self._metrics = Metrics()
        clock = FakeClock()  # its times have one length, whatever the fraction of a second
        output = LogOutput(self.writer, Redactor(), style="json", now_us=clock.now_us)
        self.observer = Observer(self._metrics, output, clock)
        self._text = b""

    def read(self) -> list[dict[str, Any]]:
        """Read until everything is written; return all lines so far."""
        written = False
        while not written:
            written = self.writer.drain(0.05)
            with suppress(BlockingIOError):
                while data := os.read(self._read, 65536):
                    self._text += data
        return [orjson.loads(line) for line in self._text.splitlines()[1:]]

    def close(self) -> None:
        self._stderr.close()

    def dropped(self) -> float:
        value = self._metrics.registry.get_sample_value("forwarder_log_lines_dropped_total")
        return value or 0.0


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def test_a_reader_that_stalls_costs_lines_that_are_counted_and_no_time(pipe: Pipe) -> None:
    """Of lines with one length the first ones are kept, without a hole."""
    began = time.monotonic()
    for number in range(1000):
        pipe.observer.emit(SettingsWarning(f"line {number:04d}"))
    pipe.observer.flush()
    seconds = time.monotonic() - began

    dropped, lines = pipe.dropped(), pipe.read()
    assert seconds < 10
    assert 700 < dropped < 1000
    assert len(lines) + dropped == 1000
    assert [line["message"] for line in lines] == [f"line {n:04d}" for n in range(len(lines))]


def test_a_short_line_may_fit_where_a_longer_one_did_not(pipe: Pipe) -> None:
    """So lines of different lengths leave holes before the last line that is kept."""
    pipe.writer.write("x" * 9_900 + "\n")
    with pytest.raises(BlockingIOError):
        pipe.writer.write("long " * 40 + "\n")

    pipe.writer.write("short\n")


def test_the_log_says_how_many_lines_it_lost_once_it_is_read_again(pipe: Pipe) -> None:
    for number in range(1000):
        pipe.observer.emit(SettingsWarning(f"line {number}"))
    pipe.read()
    pipe.observer.flush()
    last = pipe.read()[-1]

    assert (last["event"], last["lines"]) == ("log_lines_dropped", pipe.dropped())


def test_lines_that_cannot_be_written_are_counted() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stderr:
        writer = BackgroundWriter(stderr)
        output = LogOutput(writer, Redactor())
        output.write(Level.INFO, "started", {})
        writer.drain(30)

    assert output.take_dropped() == 1
    assert output.take_dropped() == 0


def test_a_pipe_that_does_not_block_gets_every_line() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with os.fdopen(write, "w") as stderr:
        writer = BackgroundWriter(stderr, most_waiting=300_000)
        for _ in range(3000):
            writer.write("x" * 99 + "\n")
        taken = b""
        while len(taken) < 300_000:
            taken += os.read(read, 65536)
        writer.drain(30)
    os.close(read)

    assert taken.count(b"\n") == 3000
    assert writer.take_lost() == 0
