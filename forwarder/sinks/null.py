"""A destination that takes everything and keeps nothing: for measuring all that lies before it."""

from __future__ import annotations

from typing import ClassVar

from forwarder.core.contracts import ACCEPTED, Batch, BatchLimits, SinkContext, WriteResult
from forwarder.transport.settings import PluginSettings


class NullConfig(PluginSettings):
    """It has no settings of its own."""


class NullSink:
    """Accepts every batch at once."""

    Config: ClassVar[type[NullConfig]] = NullConfig
    default_format: ClassVar[str] = "raw"
    summary: ClassVar[str] = "accepts everything and keeps nothing, for measurements"

    def __init__(self, config: NullConfig, context: SinkContext) -> None:
        """Take what every sink takes, and need none of it."""
        del config, context

    @property
    def limits(self) -> BatchLimits:
        """Return the engine's own defaults."""
        return BatchLimits()

    async def open(self) -> None:
        """Have nothing to connect to."""

    async def write(self, batch: Batch) -> WriteResult:
        """Accept the batch."""
        del batch
        return ACCEPTED

    async def aclose(self) -> None:
        """Have nothing to release."""
