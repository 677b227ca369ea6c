"""Runs Sigma rules on rendered events: pySigma makes SQL of the rule, and SQLite is the engine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import cefp
from sigma.backends.sqlite.sqlite import sqliteBackend
from sigma.processing.pipeline import ProcessingPipeline
from sigma.processing.transformations import FieldMappingTransformation

from forwarder.formats.cef import CefFormat
from forwarder.formats.cim import CimFormat
from forwarder.formats.ecs import EcsConfig, EcsFormat
from forwarder.formats.ocsf import OcsfConfig, OcsfFormat
from forwarder.formats.templates import FormatConfig
from tests.content.common_security_log import columns_of
from tests.content.golden import Example, parsed, render
from tests.content.sigma_rules import collection_of, pipeline_of

_SQLITE: Any = sqliteBackend  # half of it has types


class Stored(NamedTuple):
    """How a SIEM stores the events of a format: the fields it makes, and which has the time."""

    style: Any
    list_mark: str
    time_field: str
    time_format: str


STORES = {
    "ecs": Stored(EcsFormat(EcsConfig()), "", "@timestamp", "iso"),
    "cim": Stored(CimFormat(FormatConfig()), "{}", "timestamp", "iso"),
    "ocsf": Stored(OcsfFormat(OcsfConfig()), "", "time", "unix_ms"),
    "sentinel": Stored(CefFormat(FormatConfig()), "", "ReceiptTime", "unix_ms"),
}
"""Each pipeline of deploy/sigma."""


def alerts(name: str, pipeline: str, examples: Sequence[Example]) -> list[bool]:
    """Return for each example whether the rule fires on it."""
    stored = STORES[pipeline]
    backend = _SQLITE(
        _without_frame(pipeline_of(pipeline)),
        timestamp_field=stored.time_field,
        timestamp_format=stored.time_format,
    )
    query = backend.convert(collection_of(name))[-1]
    tables = [_events(example, stored) for example in examples]
    # An event may lack a field that the rule asks for, and a table may not.
    fields = {field for events in tables for event in events for field in event}
    fields.update(_mapped(backend.last_processing_pipeline))
    return [_fires(query, events, fields) for events in tables]


def _without_frame(pipeline: ProcessingPipeline) -> ProcessingPipeline:
    # KQL wants the name of the table before the conditions; SQL has it elsewhere.
    pipeline.postprocessing_items = []
    return pipeline


def _mapped(pipeline: ProcessingPipeline) -> Iterator[str]:
    """Yield the fields that a pipeline knows, in the format's words."""
    for item in pipeline.items:
        if isinstance(item.transformation, FieldMappingTransformation):
            yield from map(str, item.transformation.mapping.values())


def _fires(query: str, events: Sequence[dict[str, Any]], fields: set[str]) -> bool:
    columns = sorted(fields)
    names = ", ".join(f'"{field}"' for field in columns)
    marks = ", ".join("?" for _ in columns)
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(f"CREATE TABLE logs ({names})")
        database.executemany(
            f"INSERT INTO logs VALUES ({marks})",
            [[event.get(field) for field in columns] for event in events],
        )
        return database.execute(query).fetchone() is not None


def _events(example: Example, stored: Stored) -> list[dict[str, Any]]:
    bodies = render(example, stored.style)
    if isinstance(stored.style, CefFormat):
        return [columns_of(cefp.parse(body.decode())) for body in bodies]
    return [dict(_flat("", event, stored.list_mark)) for event in parsed(bodies)]


def _flat(path: str, value: Any, list_mark: str) -> Iterator[tuple[str, Any]]:
    """Yield each field of an object; of a list its first item, as no rule looks at a second."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{path}.{key}".lstrip("."), item, list_mark)
    elif isinstance(value, list):
        for item in value[:1]:
            yield from _flat(path + list_mark, item, list_mark)
    else:
        yield path, value
