"""Accepts everything and keeps nothing: for measuring everything before a sink."""

from __future__ import annotations

from typing import ClassVar

from forwarder.core.contracts import ACCEPTED, Batch, BatchLimits, SinkContext, WriteResult
from forwarder.transport.settings import PluginSettings


class NullConfig(PluginSettings):
    """This sink has no settings of its own."""


class NullSink:
    """Accepts every batch at once."""

    Config: ClassVar[type[NullConfig]] = NullConfig
    default_format: ClassVar[str] = "raw"
    summary: ClassVar[str] = "accepts everything and keeps nothing, for measurements"

    def __init__(self, config: NullConfig, context: SinkContext) -> None:
        """Ignore both."""
        del config, context

    @property
    def limits(self) -> BatchLimits:
        """Return the engine's own defaults."""
        return BatchLimits()

    async def open(self) -> None:
        """Do nothing."""

    async def write(self, batch: Batch) -> WriteResult:
        """Accept the batch."""
        del batch
        return ACCEPTED

    async def aclose(self) -> None:
        """Do nothing."""
