"""Five destinations of different character, and the settings that lead to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.proof.destinations import BulkBook, FileBook, HecBook, OnBatch, RelpBook, SyslogBook
from tests.proof.site import ELASTIC_KEY, HEC_TOKEN, Books, quick


@dataclass(frozen=True, slots=True)
class Five:
    """HEC, bulk (deduplicates, refuses one in 61), RELP, syslog over TCP, a file."""

    hec: HecBook
    bulk: BulkBook
    relp: RelpBook
    syslog: SyslogBook
    file: FileBook
    path: Path

    def settings(self) -> dict[str, Any]:
        """Return the sinks' settings."""
        return {
            "hec": hec(self.hec),
            "bulk": quick(
                {"type": "elasticsearch", "format": "raw", "url": self.bulk.url,
                 "api_key": ELASTIC_KEY, "index": "access"}
            ),
            "relp": quick({"type": "relp", "format": "raw", "host": "127.0.0.1",
                           "port": self.relp.port}),
            "syslog": quick({"type": "syslog", "format": "raw", "host": "127.0.0.1",
                             "port": self.syslog.port, "transport": "tcp"}),
            "file": quick({"type": "file", "format": "raw", "path": str(self.path)}),
        }  # fmt: skip

    @property
    def books(self) -> Books:
        """Return every sink's book by name."""
        return {
            "hec": lambda: self.hec.book,
            "bulk": lambda: self.bulk.book,
            "relp": lambda: self.relp.book,
            "syslog": lambda: self.syslog.book,
            "file": lambda: self.file.book,
        }

    @property
    def refused(self) -> dict[str, Callable[[], set[str]]]:
        """Return what the bulk destination has refused."""
        return {"bulk": lambda: self.bulk.refused}

    def again(self) -> dict[str, int]:
        """Return the deliveries beyond the first, by sink; bulk's are deduplicated there."""
        found = {name: book().again for name, book in self.books.items()}
        return found | {"bulk (deduplicated)": self.bulk.deduplicated}

    def before_answers(self, call: OnBatch) -> None:
        """Have ``call`` called when HEC or bulk has a batch and has not answered yet."""
        self.hec.on_batch = self.bulk.on_batch = call


def hec(fake: HecBook, kind: str = "splunk_hec") -> dict[str, Any]:
    """Return the settings of a HEC sink."""
    return quick({"type": kind, "format": "raw", "url": fake.url, "token": HEC_TOKEN})


@asynccontextmanager
async def five(folder: Path) -> AsyncIterator[Five]:
    """Start all five."""
    path = folder / "lines" / "access.ndjson"
    path.parent.mkdir()
    async with AsyncExitStack() as stack:
        yield Five(
            await stack.enter_async_context(HecBook()),
            await stack.enter_async_context(BulkBook()),
            await stack.enter_async_context(RelpBook()),
            await stack.enter_async_context(SyslogBook()),
            FileBook(path.parent, f"{path.stem}*"),
            path,
        )
