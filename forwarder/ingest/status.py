"""How a stream is, for status and health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forwarder.ingest.rounds import Trouble


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A stream as status and health show it.

    ``covered_until`` maps readers to microseconds; ``retention_left_s`` is None before the first
    round. ``success_age_s`` is None until a page was stored. ``phase`` is one of ``starting``,
    ``running``, ``waiting`` (trouble, will pass), ``held`` (a person must act), ``gated``,
    ``idle`` (no parts to read).
    """

    account: str
    stream: str
    phase: str
    covered_until: Mapping[str, int]
    retention_left_s: float | None
    success_age_s: float | None
    trouble: Trouble | None
    parts: tuple[str, ...] | None


def phase(
    trouble: Trouble | None, *, started: bool, gated: bool, parts: tuple[str, ...] | None
) -> str:
    """Return the phase of a stream (see ``StreamStatus``)."""
    if trouble is not None:
        return "held" if trouble.held else "waiting"
    if not started:
        return "starting"
    if gated:
        return "gated"
    return "idle" if parts == () else "running"
