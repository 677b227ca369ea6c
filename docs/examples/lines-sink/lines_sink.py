"""A sink that sends lines over TCP whose answer counts the stored ones."""

import asyncio
from typing import ClassVar

from pydantic import Field

from forwarder.core.contracts import ACCEPTED, Batch, BatchLimits, SinkContext, WriteResult
from forwarder.core.errors import TransientError
from forwarder.transport.settings import PluginSettings


class LinesConfig(PluginSettings):
    """Where to send lines."""

    host: str = Field(description="name or address of the receiver")
    port: int = Field(ge=1, le=65_535, description="TCP port of the receiver")


class LinesSink:
    """Opens one connection for each batch and waits for the receiver's word."""

    Config: ClassVar[type[LinesConfig]] = LinesConfig
    default_format: ClassVar[str] = "ocsf"
    summary: ClassVar[str] = "lines over TCP, with an answer"

    def __init__(self, config: LinesConfig, context: SinkContext) -> None:
        """Keep the settings; no I/O here."""
        del context
        self._config = config

    @property
    def limits(self) -> BatchLimits:
        """Return how large and how many batches may be."""
        return BatchLimits(max_events=500, max_in_flight=2)

    async def open(self) -> None:
        """Prove that the receiver answers, without sending an event."""
        await self._send(b"", 0)

    async def write(self, batch: Batch) -> WriteResult:
        """Return when the receiver has stored every line."""
        await self._send(batch.lines(), len(batch.events))
        return ACCEPTED

    async def aclose(self) -> None:
        """Nothing stays open between batches."""

    async def _send(self, lines: bytes, count: int) -> None:
        where = f"{self._config.host}:{self._config.port}"
        writer = None
        try:
            reader, writer = await asyncio.open_connection(self._config.host, self._config.port)
            writer.write(lines)
            writer.write_eof()
            answer = await reader.readline()
        except OSError as error:
            raise TransientError(f"no connection with {where}: {error.strerror}") from error
        finally:
            if writer is not None:
                writer.close()
        if answer.strip() != b"%d" % count:
            raise TransientError(f"{where} did not confirm {count} lines")
