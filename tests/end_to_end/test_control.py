"""Whatever comes through the control socket, the daemon stays as it was."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from forwarder.admin.client import RefusedError, ask
from tests.end_to_end.processes import ACCOUNT, Forwarder, caught_up, cloudflare, until

_STREAM = {"account_id": ACCOUNT, "stream": "access_requests"}
_ODD: tuple[tuple[str, Any], ...] = (
    ("cursor-set", {}),
    ("cursor-set", {**_STREAM, "to_us": -(10**18)}),
    ("cursor-set", {**_STREAM, "to_us": 10**18}),
    ("cursor-set", {**_STREAM, "to_us": "yesterday"}),
    ("cursor-set", {**_STREAM, "account_id": None, "to_us": 1}),
    ("replay", {"sink": "console"}),
    ("replay", {"sink": "console", "since_us": None}),
    ("replay", {"sink": ["console"], "since_us": 1}),
    ("dead-letters-drop", {}),
    ("dead-letters-drop", {"sink": "console", "ids": "all"}),
    ("dead-letters-drop", {"sink": "console", "ids": [2**63]}),
    ("dead-letters-replay", {"sink": 1}),
    ("lane-cancel", {}),
    ("lane-cancel", {"lane": {}}),
    ("backfill", {}),
    ("backfill", {"since_us": 2, "until_us": 1}),
    ("backfill", {"since_us": -(10**17), "until_us": 10**17}),
    ("backfill", {"since_us": 1, "until_us": 2, "streams": "access_requests"}),
)


async def test_odd_arguments_are_refused_and_nothing_is_committed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with cloudflare("--rate", "5", "--history", "1m") as api:
        forwarder = Forwarder(tmp_path, api.url)
        await forwarder.start()
        try:
            await caught_up(api, forwarder)
            # Events may flow before the start is over.
            await until(lambda: ask(state, "status")["ready"])
            for name, arguments in _ODD:
                with pytest.raises(RefusedError):
                    await asyncio.to_thread(ask, state, name, arguments)
            status = await asyncio.to_thread(ask, state, "status")
            await caught_up(api, forwarder)
            code = await forwarder.stop()
        finally:
            await forwarder.kill()

    assert [status["ready"], status["gaps"]["total"], status["backfills"]] == [True, 0, []]
    assert [line["level"] for line in forwarder.log() if line["level"] != "info"] == []
    assert code == 0
