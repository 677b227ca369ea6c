"""The queries of the guide, run by DuckDB over what the sink writes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.generate.markdown import blocks
from forwarder.core.schema import FAILURE
from forwarder.formats.ocsf import OcsfConfig, OcsfFormat
from forwarder.sinks.object_store.config import ObjectStoreConfig
from forwarder.sinks.object_store.objects import Objects
from forwarder.testing.fake_sinks import batch_of, make_event, sink_context
from forwarder.testing.samples import LOGIN, event_of
from tests.sinks.object_store.lake import query

GUIDE = (Path(__file__).parents[3] / "docs/siem/data-lake.md").read_text(encoding="utf-8")
QUERIES = {
    block.text.splitlines()[0]: block.text for block in blocks(GUIDE) if block.language == "sql"
}
STYLE = OcsfFormat(OcsfConfig())


def save(folder: Path, **settings: Any) -> None:
    """Write ten logins, four of them refused, and two of all in a second object."""
    events = []
    for number in range(10):
        row = {**LOGIN, "ray_id": str(number), "allowed": number >= 4}
        body = STYLE.render(event_of("access_requests", row))
        events.append(make_event(number, body=body))
    objects = Objects(
        ObjectStoreConfig.model_validate({"url": "s3://lake", **settings}),
        replace(sink_context(), format="ocsf"),
    )
    for some in (events, events[:2]):
        made, _ = objects.of(batch_of(some))
        for one in made:
            path = folder / "lake" / one.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(one.body)


@pytest.mark.parametrize("file_format", ["ndjson", "parquet"])
@pytest.mark.parametrize("title", QUERIES)
def test_each_query_finds_what_is_there(title: str, file_format: str, tmp_path: Path) -> None:
    text = QUERIES[title]
    if file_format == "ndjson":
        lines, parquet = re.findall(r"`(read_\w+\('.+?')`", GUIDE)
        text = text.replace(parquet, lines)
    save(tmp_path, file_format=file_format)
    found = query(text.replace("'lake/", "'{folder}/lake/"), tmp_path)

    if "refused" in title:
        assert [(name, who, count) for name, who, count in found] == [
            (LOGIN["app_name"], LOGIN["user_email"], 4)
        ]
    else:
        assert len(found) == 10


def test_refused_logins_are_what_is_counted() -> None:
    event = event_of("access_requests", {**LOGIN, "allowed": False})

    assert event.outcome == FAILURE
    assert len(QUERIES) == 2
