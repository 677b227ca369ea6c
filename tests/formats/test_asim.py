"""Rows of ASIM hold columns of the rule that is shipped, and the rule those of Azure's tables."""

import json
from typing import Any

import orjson
from hypothesis import given
from sigma.pipelines.azuremonitor.tables import AZURE_MONITOR_TABLES

from forwarder.formats.asim import AsimFormat
from forwarder.formats.templates import FormatConfig
from forwarder.testing.samples import ROWS, event_of, sample_events
from tests.content.asim import EVENT_TYPES
from tests.formats.strategies import streams_and_rows
from tests.sinks.fakes.sentinel import STREAMS, TEMPLATE, fits

_STYLE = AsimFormat(FormatConfig())
_FLOWS = json.loads(TEMPLATE.read_text())["resources"][0]["properties"]["dataFlows"]
_LOGINS, _CHANGES, _REQUESTS, _SESSIONS, _AUDIT = STREAMS
_STREAM_OF = {
    "access_requests": _LOGINS,
    "scim_updates": _CHANGES,
    "account_audit": _AUDIT,
    "jit_requests": _AUDIT,
    "logpush_http_requests": _REQUESTS,
    "logpush_zero_trust_network_sessions": _SESSIONS,
    "non_identity_logins": _LOGINS,
    "forwarder": _AUDIT,
}


def row_of(stream: str, row: Any) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(_STYLE.render(event_of(stream, row)))
    return found


@given(streams_and_rows)
def test_each_column_is_declared_and_of_its_type(given: tuple[str, dict[str, Any]]) -> None:
    columns = STREAMS[_STREAM_OF[given[0]]]

    for name, value in row_of(*given).items():
        assert fits(columns[name], value), name


def test_the_rule_declares_columns_of_the_table_and_none_in_vain() -> None:
    written: dict[str, set[str]] = {name: set() for name in STREAMS}
    for event in sample_events():
        written[_STREAM_OF[event.origin.stream]] |= orjson.loads(_STYLE.render(event)).keys()

    for flow in _FLOWS:
        (stream,) = flow["streams"]
        table = AZURE_MONITOR_TABLES[flow["outputStream"].removeprefix("Microsoft-")]
        kinds = {name: table[name]["data_type"] for name in STREAMS[stream]}
        assert kinds == STREAMS[stream]
        assert written[stream] == STREAMS[stream].keys()


def test_what_a_schema_demands_is_in_every_row() -> None:
    demanded = {"TimeGenerated", "EventCount", "EventStartTime", "EventEndTime", "EventType",
                "EventResult", "EventProduct", "EventVendor", "EventSchemaVersion"}  # fmt: skip
    rows = [orjson.loads(_STYLE.render(event)) for event in sample_events()]

    assert [row for row in rows if not demanded <= row.keys()] == []
    assert {row["EventResult"] for row in rows} <= {"Success", "Failure", "NA"}
    severities = {"Informational", "Low", "Medium", "High"}
    assert {row["EventSeverity"] for row in rows} <= severities


def test_changes_have_the_types_of_the_schema() -> None:
    rows = [row_of("scim_updates", row) for row in ROWS["scim_updates"].values()]

    assert {row["EventType"] for row in rows} - {"Other"} == EVENT_TYPES["UserManagement"]


def test_an_added_field_goes_where_azure_keeps_it() -> None:
    assert AsimFormat.nearest_path("env") == "AdditionalFields.env"
    assert AsimFormat.nearest_path("AdditionalFields.env") == "AdditionalFields.env"
