"""Free ports of 127.0.0.1, and a TCP proxy that delays, swallows, resets and refuses.

with ToxicProxy(upstream=receiver.port) as proxy:
    sink = make_sink(port=proxy.port)
    proxy.swallow = True
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Coroutine, Iterator
from functools import cache
from itertools import cycle, islice
from typing import Any, Self, TypeVar

Result = TypeVar("Result")
_PATIENCE = 60.0
_RESET = struct.pack("ii", 1, 0)
"""``SO_LINGER`` with 0 seconds: the kernel answers the next close with a reset."""

# Below the range from which kernels take ports for outgoing connections and for port 0: while a
# server is killed and started again, nobody else gets its port.
_RANGE = range(15_000, 32_000)


@cache
def _candidates() -> Iterator[int]:
    # In random order: suites that run side by side should not try the same ports. From the system,
    # since tests give the module's own randomness one seed.
    return cycle(random.SystemRandom().sample(_RANGE, len(_RANGE)))


def free_port() -> int:
    """Return a port that nobody listens at; the same port comes again only after many calls."""
    for port in islice(_candidates(), len(_RANGE)):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise OSError("no port of 127.0.0.1 is free")


def wait_for_port(port: int, patience: float = _PATIENCE) -> None:
    """Return when somebody listens at ``port``; raises ``OSError`` after ``patience`` seconds."""
    until = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            # Refused is what a server does that is still starting: keep asking.
            if time.monotonic() > until:
                raise
            time.sleep(0.05)  # noqa: TID251 - no loop runs here
        else:
            return


class ToxicProxy:
    """Passes bytes on to ``upstream`` (a port).

    ``delay`` is seconds before each chunk, ``swallow`` reads and passes nothing on (a black hole),
    ``hold`` stops reading until it is false again; with ``answers_only`` all three leave alone
    what goes to ``upstream``. Runs in a thread of its own, since the test's
    loop may be blocked meanwhile.
    """

    def __init__(self, upstream: int = 0) -> None:
        """Listen to nothing yet; ``upstream`` may be set later."""
        self.upstream = upstream
        self.delay = 0.0
        self.swallow = False
        self.hold = False
        self.answers_only = False
        self.connections = 0
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="toxic proxy")
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        # Connections first: a stopped loop cannot close them any more.
        self.refuse()
        self._run(_everything_else_ended())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def accept(self) -> None:
        """Accept connections, at the same port as before."""
        self._run(self._accept())

    def refuse(self) -> None:
        """Accept no more connections, and reset the open ones."""
        self._run(self._refuse())

    def reset(self) -> None:
        """Reset every open connection; new ones are accepted."""
        self._run(self._reset())

    def _run(self, what: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(60)

    async def _accept(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _refuse(self) -> None:
        if self._server is not None:
            # No wait_closed(): since Python 3.12 it waits for the connections that are reset below.
            self._server.close()
            self._server = None
        await self._reset()

    async def _reset(self) -> None:
        for writer in self._writers:
            # An aborted transport sends FIN at best; a reset is what a dead peer's kernel sends.
            found = writer.get_extra_info("socket")
            if found is not None and found.fileno() >= 0:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        self._writers.clear()
        await asyncio.sleep(0.01)  # aborted transports close at the next turns of the loop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.transport.abort()
            return
        # Both directions, so that a reset reaches the client and the destination.
        self._writers |= {writer, far_writer}
        await asyncio.gather(
            self._pass_on(reader, far_writer, answers=False),
            self._pass_on(far_reader, writer, answers=True),
        )
        self._writers -= {writer, far_writer}

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                concerned = answers or not self.answers_only
                while self.hold and concerned:  # noqa: ASYNC110 - another thread sets it
                    await asyncio.sleep(0.02)
                # Read and dropped: the sender sees success, as with a firewall that forgets.
                if self.swallow and concerned:
                    continue
                if self.delay and concerned:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()


async def _everything_else_ended() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    # Each must have ended before the loop is closed, or Python warns about it later.
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0.01)
