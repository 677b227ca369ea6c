"""A turn of the event loop that takes long is found, whichever loop runs."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.proof.ledger import Ledger
from tests.proof.turns import measured, too_long

_PROGRAM = """
import asyncio, time, {module}

async def main():
    await asyncio.sleep(0.1)
    began = time.thread_time()
    while time.thread_time() - began < {seconds}:
        pass
    await asyncio.sleep(0.1)

with asyncio.Runner(loop_factory={factory}) as runner:
    runner.run(main())
"""


async def _run(folder: Path, seconds: float, module: str, factory: str) -> list[str]:
    program = _PROGRAM.format(seconds=seconds, module=module, factory=factory)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=measured(folder, 1, os.environ)
    )
    assert await process.wait() == 0
    found = too_long(folder, alone=False)
    folder.joinpath("turns.1").unlink()
    return found


@pytest.mark.parametrize(
    ("module", "factory"), [("asyncio", "None"), ("uvloop", "uvloop.new_event_loop")]
)
async def test_a_turn_of_over_a_second_is_found(
    tmp_path: Path, ledger: Ledger, module: str, factory: str
) -> None:
    pytest.importorskip(module)

    assert await _run(tmp_path, 0.3, module, factory) == []
    (found,) = await _run(tmp_path, 1.2, module, factory)

    ledger.plant("Load", f"the loop held for 1.2 s ({module})", found)
