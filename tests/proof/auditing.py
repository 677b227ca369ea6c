"""The second judge of a run: ``forwarder verify``, which knows nothing of the destinations."""

from __future__ import annotations

from datetime import datetime, timedelta

import orjson

from tests.end_to_end.processes import until
from tests.proof.site import Site

_PUSHED = "push"
EDGE = timedelta(seconds=5)
"""What the API may still have added to what the readers had covered."""


async def audited(daemon: Site) -> str:
    """Fail if a row that the live readers had covered is missing, or cannot be judged.

    Called when the daemon has ended, which runs once more if it had not yet read any window to its
    end; returns a sentence for the ledger.
    """
    if await covered_until(daemon) is None:
        await daemon.start()
        await until(lambda: covered_until(daemon), 60)
        assert await daemon.stop() == 0
    end = (datetime.fromisoformat(await covered_until(daemon) or "") - EDGE).isoformat()
    code, out = await daemon.command("verify", "--since", "24h", "--until", end, "--json")
    found = orjson.loads(out)
    wrong = [one for one in found if one["missing"] or one["forgotten"] or one["skipped"]]

    assert (code, wrong) == (0, []), out
    assert any(one["shown"] for one in found)
    shown = sum(one["shown"] for one in found if one["sink"] == found[0]["sink"])
    return f"`forwarder verify` over {shown:,} rows agrees"


async def covered_until(daemon: Site) -> str | None:
    """Return how far every live reader has read; None when one is in its first round.

    A live reader begins behind those that read again, and is in front of them from then on.
    """
    _, out = await daemon.command("cursors", "list", "--json")
    places: dict[tuple[str, str], list[tuple[str, str]]] = {}
    # What is pushed is covered by nobody: only its jobs know what will come.
    for one in (one for one in orjson.loads(out) if one["reader"] != _PUSHED):
        stream = places.setdefault((one["account"], one["stream"]), [])
        stream.append((one["covered_until"], one["reader"]))
    first = [max(readers) for readers in places.values()]
    return min(first)[0] if all(reader == "live" for _, reader in first) else None
