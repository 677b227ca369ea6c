"""A simulator as a process of its own, for the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from forwarder.simulator.settings import SimulatorSettings
from forwarder.simulator.simulator import Simulator


async def serve(
    settings: SimulatorSettings,
    host: str = "127.0.0.1",
    port: int = 8787,
    *,
    started: Callable[[str], None] | None = None,
) -> None:
    """Run a simulator until cancelled; `started` is told the base URL once it listens.

    Raises:
        OSError: the address cannot be listened on.

    """
    simulator = Simulator(settings)
    try:
        url = await simulator.start(host, port)
        if started is not None:
            started(url)
        await asyncio.Event().wait()
    finally:
        await simulator.aclose()
