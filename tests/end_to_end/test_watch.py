"""``forwarder status --watch`` on a real terminal of 80 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.end_to_end.processes import SCRIPT, Forwarder, cloudflare, until

_TAKEN, _GIVEN_BACK = b"\x1b[?1049h", b"\x1b[?7h\x1b[?25h\x1b[?1049l"
_LINES, _COLUMNS = 24, 80


class Terminal:
    """A terminal with a program in it; ``seen`` is everything that the program has written."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.seen = b""
        self._master = master

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def frames(self) -> list[bytes]:
        """Return what was drawn each time; the first one is what came before."""
        return self.seen.split(b"\x1b[H")

    def shows(self, words: bytes, times: int = 1) -> bool:
        """Tell whether words were written so many times."""
        with suppress(OSError):  # nothing new, or the program has ended
            self.seen += os.read(self._master, 65_536)
        return self.seen.count(words) >= times

    async def ended(self) -> int:
        """Return the exit status of the program, after all it wrote was read."""
        await until(lambda: not self.shows(_GIVEN_BACK, 2) and self.process.poll() is not None)
        self.shows(_GIVEN_BACK)
        return self.process.wait()


@contextmanager
def terminal(forwarder: Forwarder, *words: str) -> Iterator[Terminal]:
    """Run ``forwarder status`` in a terminal of its own."""
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
    before, given = termios.tcgetattr(slave), ("-c", forwarder.settings)
    process = subprocess.Popen(
        # Ctrl-C reaches whom the terminal controls and who does not ignore it, as all do that a
        # shell started in the background.
        ["env", "--default-signal=INT", "setsid", "--ctty", SCRIPT, "status", *words, *given],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8"},
    )
    try:
        yield Terminal(master, process)
        assert termios.tcgetattr(slave) == before
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Forwarder]:
    async with cloudflare("--rate", "5", "--history", "1m") as api:
        forwarder = Forwarder(folder, api.url)
        await forwarder.start()
        try:
            await until(forwarder.has_started)
            yield forwarder
        finally:
            await forwarder.kill()


async def test_it_draws_every_second_and_gives_the_terminal_back(tmp_path: Path) -> None:
    async with running(tmp_path) as forwarder:
        for end in ("q", "Ctrl-C", "SIGTERM"):
            with terminal(forwarder, "--watch") as screen:
                await until(partial(screen.shows, b"console", 3))
                if end == "SIGTERM":
                    screen.process.send_signal(signal.SIGTERM)
                else:
                    screen.press(b"\x03" if end == "Ctrl-C" else b"q")
                code = await screen.ended()
            lines = [
                re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)
                for line in screen.frames()[-1].split(_GIVEN_BACK)[0].decode().split("\r\n")
            ]

            assert code == 0, end
            assert screen.seen.startswith(_TAKEN), end
            assert screen.seen.endswith(_GIVEN_BACK), end
            assert b"\x1b[2J" not in screen.seen, end  # an erased screen flickers
            assert len(lines) <= _LINES, end
            assert max(map(len, lines)) <= _COLUMNS, end


async def test_a_restart_of_the_daemon_does_not_end_it(tmp_path: Path) -> None:
    async with running(tmp_path) as forwarder:
        with terminal(forwarder, "--watch") as screen:
            await until(partial(screen.shows, b"console"))
            await forwarder.stop()
            await until(partial(screen.shows, b"no answer: "))
            await forwarder.start()
            await until(lambda: screen.shows(b"") and b"no answer" not in screen.frames()[-2])
            screen.press(b"q")
            code = await screen.ended()

    assert code == 0


async def test_each_status_is_a_line_of_json_where_that_is_wanted(tmp_path: Path) -> None:
    async with running(tmp_path) as forwarder:
        with terminal(forwarder, "--watch", "--json") as screen:
            await until(partial(screen.shows, b'{"version"', 2))
            screen.press(b"\x03")
            assert await screen.ended() == 0
