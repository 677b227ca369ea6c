"""The second judge of a run: ``forwarder verify``, which knows nothing of the destinations."""

from __future__ import annotations

from datetime import datetime, timedelta

import orjson

from tests.proof.site import Site

_EDGE = timedelta(seconds=5)
"""What the API may still have added to what the readers had covered."""


async def audited(daemon: Site) -> str:
    """Judge what the live readers had covered when the daemon ended; fails if a row is missing.

    Returns a sentence for the ledger.
    """
    _, out = await daemon.command("cursors", "list", "--json")
    covered = [one["covered_until"] for one in orjson.loads(out) if one["reader"] == "live"]
    until = (datetime.fromisoformat(min(covered)) - _EDGE).isoformat()
    code, out = await daemon.command("verify", "--since", "24h", "--until", until, "--json")
    verdicts = orjson.loads(out)
    wrong = [one for one in verdicts if one["missing"] or one["forgotten"] or one["skipped"]]

    assert (code, wrong) == (0, [])
    assert any(one["shown"] for one in verdicts)
    shown = sum(one["shown"] for one in verdicts if one["sink"] == verdicts[0]["sink"])
    return f"`forwarder verify` over {shown:,} rows agrees"
