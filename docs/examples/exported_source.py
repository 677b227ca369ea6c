"""A source that reads exported authentication logs out of a folder."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import orjson
from pydantic import Field

from forwarder.core.contracts import Page, Record, Window
from forwarder.core.errors import NeedsOperatorError
from forwarder.core.identity import Identifier
from forwarder.core.schema import Normaliser
from forwarder.core.source_contract import Parts, Purpose, SourceContext, StreamPlan
from forwarder.core.timing import Clock, parse_us
from forwarder.sources.cloudflare_access.login_mapping import LOGINS
from forwarder.transport.settings import Duration, PluginSettings, Settings

STREAM = "access_requests"
_MOST_ROWS = 1000


class Plan(Settings):
    """How often, and how far back, the folder is read."""

    poll_interval: Duration = Field(60.0, description="time between two polls")
    start_from: Duration = Field(30 * 86_400.0, description="how far to look back at first")
    overlap: Duration = Field(60.0, description="how much every round reads again")
    reconcile: tuple[Duration, ...] = Field(
        (), description="ages at which everything is read again"
    )


class ExportedConfig(PluginSettings):
    """Which folder is read, and whose log it holds."""

    account_id: str = Field(description="id that goes into the events' ids")
    folder: Path = Field(description="folder with *.ndjson")
    retention: Duration = Field(365 * 86_400.0, description="how long files are kept")
    plan: Plan = Field(Plan(), description="when to read")

    @property
    def label(self) -> str:
        """Return the name for people."""
        return self.folder.name


class Nothing:
    """What accounts share: nothing."""

    def snapshot(self) -> None:
        """Return nothing to remember."""


class Folder:
    """Reads rows by time; the position is how many rows of the window were returned."""

    def __init__(self, config: ExportedConfig) -> None:
        """Keep the settings; no I/O here."""
        self._folder = config.folder
        self._identify = Identifier(config.account_id, STREAM)

    async def fetch(
        self,
        window: Window,
        position: Any | None,
        *,
        parts: Sequence[str] = (),
        purpose: Purpose = Purpose.LIVE,
    ) -> Page:
        """Return the next rows of the window, oldest first."""
        del parts, purpose
        rows = await asyncio.to_thread(self._rows, window)
        start = position or 0
        chosen = rows[start : start + _MOST_ROWS]
        following = start + len(chosen)
        identities = self._identify.identities(row for _, row in chosen)
        return Page(
            records=[
                Record(orjson.dumps(row), time_us, identity, frozenset(row))
                for (time_us, row), identity in zip(chosen, identities, strict=True)
            ],
            position=following if following < len(rows) else None,
            server_time_us=time.time_ns() // 1000,
            project=partial(self._project, [row for _, row in chosen]),
        )

    async def parts(self, memory: Any | None, now_us: int) -> Parts:
        """Return no parts: this stream is read as a whole."""
        del memory, now_us
        return Parts()

    async def server_time_us(self) -> int:
        """Return the clock that rows are compared with: this machine's."""
        return time.time_ns() // 1000

    def _rows(self, window: Window) -> list[tuple[int, dict[str, Any]]]:
        if not self._folder.is_dir():
            raise NeedsOperatorError(f"{self._folder} is not a folder", hint="correct `folder`")
        rows = [
            orjson.loads(line)
            for path in sorted(self._folder.glob("*.ndjson"))
            for line in path.read_bytes().splitlines()
        ]
        timed = [(parse_us(row["created_at"]) or 0, row) for row in rows]
        within = [one for one in timed if window.since_us <= one[0] <= window.until_us]
        return sorted(within, key=lambda one: one[0])

    def _project(self, rows: list[dict[str, Any]], index: int, keys: frozenset[str]) -> bytes:
        """Return the identity that a row had when rows carried only ``keys``."""
        known = {key: value for key, value in rows[index].items() if key in keys}
        return self._identify.identity(known)


class Exported:
    """The plugin: one folder."""

    Config: ClassVar[type[ExportedConfig]] = ExportedConfig
    summary: ClassVar[str] = "exported authentication logs in a folder"
    normalisers: ClassVar[Mapping[str, Normaliser]] = {STREAM: LOGINS}

    def __init__(self, config: ExportedConfig, context: SourceContext) -> None:
        """Keep the settings; no I/O here."""
        del context
        self._config = config

    @classmethod
    def share(cls, clock: Clock, remembered: Any | None) -> Nothing:
        """Share nothing between accounts."""
        del clock, remembered
        return Nothing()

    def streams(self) -> dict[str, StreamPlan]:
        """Return the one stream."""
        return {STREAM: StreamPlan(Folder(self._config), self._config.plan)}

    async def aclose(self) -> None:
        """Close nothing: there are no connections."""
