"""The example of docs/adding-a-source.md is a source: the program reads and delivers with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest

from forwarder.core.contracts import Page, Window
from forwarder.core.errors import NeedsOperatorError
from forwarder.core.source_contract import SourceContext
from forwarder.core.timing import SystemClock
from tests.docs.example import imported
from tests.docs.shell import ROOT

EXAMPLE = ROOT / "docs/examples/exported_source.py"
ROWS = 2500
START = datetime(2026, 7, 1, tzinfo=UTC)
WINDOW = Window(
    round(START.timestamp() * 1e6), round((START + timedelta(days=1)).timestamp() * 1e6)
)


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    with imported(EXAMPLE) as module:
        yield module


def plugin(example: ModuleType, folder: Path) -> Any:
    config = example.Exported.Config(account_id="acme", folder=folder)
    return example.Exported(config, SourceContext(SystemClock(), None))


def test_every_row_of_a_window_is_read_once(example: ModuleType, tmp_path: Path) -> None:
    rows = [
        {"created_at": (START + timedelta(seconds=n // 3)).isoformat(), "ray_id": f"{n:x}"}
        for n in range(ROWS)
    ]
    late = {"created_at": (START + timedelta(days=2)).isoformat(), "ray_id": "late"}
    (tmp_path / "a.ndjson").write_bytes(b"\n".join(map(orjson.dumps, [*rows, late])))
    source = plugin(example, tmp_path).streams()["access_requests"].source

    pages = asyncio.run(_walk(source))

    read = [orjson.loads(record.row)["ray_id"] for page in pages for record in page.records]
    assert sorted(read) == sorted(row["ray_id"] for row in rows)
    assert len({record.identity for page in pages for record in page.records}) == ROWS


def test_a_missing_folder_needs_a_person(example: ModuleType, tmp_path: Path) -> None:
    source = plugin(example, tmp_path / "gone").streams()["access_requests"].source

    with pytest.raises(NeedsOperatorError) as caught:
        asyncio.run(source.fetch(WINDOW, None))

    assert caught.value.hint


def test_a_row_with_a_new_key_is_recognised(example: ModuleType, tmp_path: Path) -> None:
    row = {"created_at": START.isoformat(), "ray_id": "a"}
    source = plugin(example, tmp_path).streams()["access_requests"].source
    file = tmp_path / "a.ndjson"
    file.write_bytes(orjson.dumps(row))
    (before,) = asyncio.run(_walk(source))
    file.write_bytes(orjson.dumps({**row, "new": 1}))
    (after,) = asyncio.run(_walk(source))

    assert after.records[0].identity != before.records[0].identity
    assert after.project(0, frozenset(row)) == before.records[0].identity


async def _walk(source: Any) -> list[Page]:
    pages: list[Page] = [await source.fetch(WINDOW, None)]
    while pages[-1].position is not None:
        pages.append(await source.fetch(WINDOW, pages[-1].position))
    return pages
