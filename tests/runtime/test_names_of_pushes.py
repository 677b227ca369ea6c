"""Sinks get pushed logs under the name of the polled log, so that what selects one selects both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from forwarder.config import load
from forwarder.core.contracts import BatchEvent, StreamKey
from forwarder.formats.ecs import EcsConfig, EcsFormat
from forwarder.formats.pipeline import Pipeline
from forwarder.runtime.replica import Rendering
from forwarder.sinks.elasticsearch import ElasticsearchConfig
from forwarder.sinks.elasticsearch.bulk import target_name
from forwarder.sinks.loki import LokiConfig, streams_of
from forwarder.sinks.splunk_hec.envelope import Envelopes, SplunkHecConfig
from forwarder.testing.fake_sinks import batch_of
from forwarder.testing.samples import ACCOUNT_ID, ACCOUNTS, NORMALISERS, page_of

LOGIN = {"CreatedAt": "2026-11-30T08:00:00Z", "Allowed": True, "Email": "ann@example.com"}
PAGES: Mapping[str, Mapping[str, Any]] = {
    "access_requests": {"created_at": "2026-11-30T08:00:00Z", "user_email": "ann@example.com"},
    "logpush_access_requests": LOGIN,
    "account_audit": {"id": "a", "action": {"time": "2026-11-30T08:00:00Z"}},
    "logpush_audit_logs_v2": {"AuditLogID": "a", "ActionTimestamp": "2026-11-30T08:00:00Z"},
    "logpush_gateway_dns": {"Datetime": "2026-11-30T08:00:00Z"},
}


@pytest.fixture
def delivered(tmp_path: Path) -> Any:
    """Return a function from settings to the stream of each delivered event, by stored stream."""

    def delivered(deliver: str, streams: str, sink: str = "format: cim") -> dict[str, str]:
        file = tmp_path / "config.yaml"
        file.write_text(
            f"version: 1\naccounts: [{{account_id: {ACCOUNT_ID}, api_token: {'t' * 40}, "
            f"streams: {{{streams}}}}}]\nsinks: {{one: {{type: 'null', {sink}}}}}\n"
            f"logpush: {{listen: '127.0.0.1:0', secret: {'s' * 32}, deliver: {deliver}}}\n"
        )
        settings = load(file, {})
        render = Rendering(settings).render_for(settings.sinks[0])
        events: dict[str, BatchEvent] = {
            stored: render(page_of(stored, [row])).events[0]
            for stored, row in PAGES.items()
            if render(page_of(stored, [row])).events
        }
        return {stored: event.stream for stored, event in events.items()}

    return delivered


BOTH = "access_requests: {}, account_audit: {}"


@pytest.mark.parametrize(
    ("deliver", "streams", "expected"),
    [
        ("poll", BOTH, {"access_requests": "access_requests"}),
        ("push", BOTH, {"logpush_access_requests": "access_requests"}),
        (
            "both",
            BOTH,
            {
                "access_requests": "access_requests",
                "logpush_access_requests": "logpush_access_requests",
            },
        ),
        (
            "poll",
            "account_audit: {}",
            {
                "access_requests": "access_requests",
                "logpush_access_requests": "access_requests",
            },
        ),
    ],
)
def test_pushed_logins_have_the_name_of_polled_ones_unless_sinks_get_both(
    delivered: Any, deliver: str, streams: str, expected: dict[str, str]
) -> None:
    found = delivered(deliver, streams)

    assert expected == {key: found[key] for key in found if key.endswith("access_requests")}


def test_a_pushed_login_goes_where_a_polled_one_goes() -> None:
    """By the defaults of the sinks that route by the stream."""
    names = {StreamKey(ACCOUNT_ID, "logpush_access_requests"): "access_requests"}
    page = page_of("logpush_access_requests", [LOGIN])
    (event,) = Pipeline(EcsFormat(EcsConfig()), NORMALISERS, ACCOUNTS, names=names)(page).events

    hec = SplunkHecConfig.model_validate({"url": "http://127.0.0.1:8088", "token": "t"})
    envelope = orjson.loads(Envelopes(hec, json=True).encode([event]))
    index = target_name(ElasticsearchConfig(url="https://es:9200").target, event.stream, "")
    labels = next(iter(streams_of(LokiConfig(url="http://127.0.0.1"), batch_of([event]))))
    assert envelope["sourcetype"] == "cloudflare:access_requests"
    assert index == "logs-cloudflare_access.audit-default"
    assert envelope["event"]["data_stream"]["dataset"] == "cloudflare_access.audit"
    assert "access_requests" in labels
    assert "logpush" not in labels


def test_a_log_of_administrators_that_comes_twice_has_two_names(delivered: Any) -> None:
    twice = delivered("push", BOTH)
    once = delivered("push", "access_requests: {}")

    assert (twice["account_audit"], twice["logpush_audit_logs_v2"]) == (
        "account_audit",
        "logpush_audit_logs_v2",
    )
    assert once["logpush_audit_logs_v2"] == "account_audit"
    assert once["logpush_gateway_dns"] == "logpush_gateway_dns"


def test_rows_as_received_keep_the_name_of_their_dataset(delivered: Any) -> None:
    """Their keys are others than those of polled rows."""
    found = delivered("push", BOTH, "format: raw")

    assert found["logpush_access_requests"] == "logpush_access_requests"
    assert "access_requests" not in found


@pytest.mark.parametrize("name", ["access_requests", "logpush_access_requests"])
@pytest.mark.parametrize("style", ["cim", "raw"])
def test_a_filter_may_name_a_pushed_log_either_way(delivered: Any, name: str, style: str) -> None:
    only = delivered("push", BOTH, f"format: {style}, only: {{stream: {name}}}")
    without = delivered("push", BOTH, f"format: {style}, except: {{stream: {name}}}")

    assert list(only) == ["logpush_access_requests"]
    assert "logpush_access_requests" not in without
