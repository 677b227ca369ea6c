"""The golden events of each detection, as events of the format ``ecs`` in an order of arrival."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from forwarder.core.contracts import BatchEvent
from forwarder.formats.ecs import EcsConfig, EcsFormat
from forwarder.formats.pipeline import Pipeline
from forwarder.sinks.elasticsearch import ElasticsearchConfig, ElasticsearchSink
from forwarder.testing.fake_sinks import batch_of, sink_context
from forwarder.testing.samples import ACCOUNTS, NORMALISERS, page_of, time_of
from tests.content.golden import START, Row, cases
from tests.integration.opensearch.node import Node
from tests.integration.saved_objects import lines_of

_START_US = int(START.timestamp()) * 1_000_000
_DAY_US = 24 * 3_600_000_000
_ALIVE = Row("forwarder", {"event": "coverage", "time": START.isoformat()})


class Arrival(NamedTuple):
    """What one example is about; the rows of ``before`` came in on earlier days."""

    detection: str
    name: str
    fires: bool
    before: list[Row]
    rows: list[Row]
    namespace: str


def arrivals() -> Iterator[Arrival]:
    """Yield the examples of every detection that is shipped here."""
    for rule in lines_of("elasticsearch/rules.ndjson"):
        detection = rule["rule_id"].partition("-")[2]
        case = cases()[detection]
        for number, example in enumerate(case.match + case.silent):
            old = [row for row in example.rows if time_of(row.row) < _START_US - _DAY_US]
            new = [row for row in example.rows if row not in old]
            # Else each of the calm events alone would be silence, which is found, too.
            new += [_ALIVE] if detection == "forwarder_gap_or_silence" else []
            fires = number < len(case.match)
            yield Arrival(detection, example.name, fires, old, new, f"{detection}_{number}")


def events_of(rows: Iterable[Row], namespace: str) -> list[BatchEvent]:
    """Return the events that the format ``ecs`` makes of rows of any stream."""
    style = EcsFormat(EcsConfig(data_stream_namespace=namespace))
    render = Pipeline(style, NORMALISERS, ACCOUNTS)
    found: list[BatchEvent] = []
    for stream, row in rows:
        found += render(page_of(stream, [row], first_offset=len(found))).events
    return found


async def deliver(node: Node, events: list[BatchEvent], namespace: str) -> None:
    """Write events by the sink, and let searches see them."""
    config = ElasticsearchConfig.model_validate({"url": node.url, "namespace": namespace})
    sink = ElasticsearchSink(config, sink_context())
    result = await sink.write(batch_of(events))
    await sink.aclose()
    assert result.rejected == ()
    node.call("POST", f"/logs-cloudflare_access.*-{namespace}/_refresh")
