"""What can be alerted on is there, at zero, before it first happens."""

from __future__ import annotations

import re
from pathlib import Path

import forwarder
from forwarder.core.telemetry import CertificateSeen
from forwarder.observe.counting import count
from forwarder.observe.metrics import GAP_REASONS, Metrics, expect

STREAM = {"stream": "access_requests", "account": "acme"}


def expected() -> Metrics:
    metrics = Metrics()
    expect(metrics, [("acme", "access_requests")], ["splunk"])
    return metrics


def test_known_streams_and_sinks_begin_at_zero() -> None:
    value = expected().registry.get_sample_value

    assert value("forwarder_rows_late_total", STREAM) == 0
    assert value("forwarder_poll_failures_total", {**STREAM, "kind": "operator"}) == 0
    for stream in ("access_requests", "forwarder"):
        labels = {"sink": "splunk", "stream": stream}
        assert value("forwarder_sink_rejected_events_total", labels) == 0
    labels = {"sink": "splunk", "stream": "all"}
    assert value("forwarder_sink_dropped_events_total", labels) == 0
    assert value("forwarder_config_reloads_total", {"result": "refused"}) == 0


def test_what_has_counted_stays_after_a_reload() -> None:
    metrics = expected()
    metrics.gaps.labels("cursor_moved").inc()
    expect(metrics, [("acme", "access_requests")], ["splunk", "bus"])

    value = metrics.registry.get_sample_value
    assert value("forwarder_gaps_total", {"reason": "cursor_moved"}) == 1
    assert value("forwarder_sink_retried_events_total", {"sink": "bus"}) == 0


def test_certificates_of_a_sink_that_is_gone_are_forgotten() -> None:
    metrics = expected()
    for where in ("sink splunk", "sink bus", "listener admin"):
        count(CertificateSeen(where, "theirs", 1.0, 2.0), metrics)
    expect(metrics, [], ["splunk"])

    for kind in ("expires", "valid_from"):
        name = f"forwarder_certificate_{kind}_timestamp_seconds"
        found = {
            where: metrics.registry.get_sample_value(name, {"where": where, "side": "theirs"})
            for where in ("sink splunk", "sink bus", "listener admin")
        }
        value = {"expires": 2.0, "valid_from": 1.0}[kind]
        assert found == {"sink splunk": value, "sink bus": None, "listener admin": value}


def test_every_kind_of_task_has_a_count_of_its_crashes() -> None:
    """A task is started with a text; a kind with something in its name ends at a colon."""
    started = r"\b_?(?:supervisor|tasks)\.start\(\s*f?\"([a-z]+)"
    texts = [path.read_text() for path in Path(forwarder.__file__).parent.rglob("*.py")]
    kinds = {kind for text in texts for kind in re.findall(started, text)}
    value = expected().registry.get_sample_value

    assert {"sink", "upkeep"} < kinds
    for kind in (*kinds, "stream", "token", "backfill"):
        assert value("forwarder_task_crashes_total", {"kind": kind}) == 0, kind


def constants(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Z_]+) = \"(\w+)\"", text, re.MULTILINE))


def test_every_reason_that_the_code_gives_is_expected() -> None:
    """A reason is a constant in the first place of ``Lost``, or a key of ``_DETAILS``."""
    texts = [path.read_text() for path in Path(forwarder.__file__).parent.rglob("*.py")]
    everywhere, given = constants("\n".join(texts)), set()
    for text in texts:
        names = re.findall(r"\bLost\(\s*([A-Z_]+)", text)
        for table in re.findall(r"^_DETAILS = \{(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            names += re.findall(r"^    ([A-Z_]+):", table, re.MULTILINE)
        given |= {constants(text).get(name, everywhere[name]) for name in names}

    assert given == set(GAP_REASONS)
