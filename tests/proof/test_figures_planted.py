"""The judges of throughput and memory see a sink that takes either from the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proof.figures import LIMIT_MIB, SECTION, daemon, helper, throughput
from tests.proof.ledger import Ledger

_SERVER = "tests.proof.figures_server"
_ROWS = 60_000
_HOARDED = 200_000


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_a_neighbour_that_blocks_the_loop_is_found(tmp_path: Path, ledger: Ledger) -> None:
    busy = {"busy": {"type": "busy"}}
    with helper(_SERVER, str(_ROWS // 50), "1") as port:
        alone, _ = await throughput(tmp_path / "alone", port, _ROWS, {})
        beside, _ = await throughput(tmp_path / "beside", port, _ROWS, busy, plants=True)

    assert beside / alone < 0.9
    ledger.plant(SECTION, "a sink that blocks the loop for 50 ms at each batch",
                 f"{beside / alone:.0%} of the throughput without it")  # fmt: skip


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_a_sink_that_keeps_what_it_was_given_is_found(tmp_path: Path, ledger: Ledger) -> None:
    hoarding = {"hoarding": {"type": "hoarding", "format": "ocsf"}}
    with helper(_SERVER, str(_HOARDED // 50), "1") as port:
        async with daemon(tmp_path, port, hoarding, plants=True) as running:
            await running.reached("hoarding", _HOARDED)
            peak = running.peak

    assert peak > LIMIT_MIB
    ledger.plant(SECTION, "a sink that keeps every event", f"{peak:.0f} MiB resident")
