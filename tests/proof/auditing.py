"""The second judge of a run: ``forwarder verify``, which knows nothing of the destinations."""

from __future__ import annotations

from datetime import datetime, timedelta

import orjson

from tests.proof.site import Site

_EDGE = timedelta(seconds=5)
"""What the API may still have added to what the readers had covered."""


async def audited(daemon: Site) -> str:
    """Fail if a row that the live readers had covered is missing, or cannot be judged.

    Called when the daemon has ended; returns a sentence for the ledger.
    """
    _, out = await daemon.command("cursors", "list", "--json")
    covered = [one["covered_until"] for one in orjson.loads(out) if one["reader"] == "live"]
    until = (datetime.fromisoformat(min(covered)) - _EDGE).isoformat()
    code, out = await daemon.command("verify", "--since", "24h", "--until", until, "--json")
    found = orjson.loads(out)
    wrong = [one for one in found if one["missing"] or one["forgotten"] or one["skipped"]]

    assert (code, wrong) == (0, []), out
    assert any(one["shown"] for one in found)
    shown = sum(one["shown"] for one in found if one["sink"] == found[0]["sink"])
    return f"`forwarder verify` over {shown:,} rows agrees"
