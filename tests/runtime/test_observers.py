"""Spans are made when the settings ask for them, and their absence is reported as a fault."""

from __future__ import annotations

import io
import subprocess
import sys

from pydantic import AnyHttpUrl

from forwarder.config.models import TracingSettings
from forwarder.core.timing import SystemClock
from forwarder.observe.metrics import Metrics
from forwarder.observe.observer import Observer
from forwarder.observe.output import LogOutput, Redactor
from forwarder.observe.tracing import Tracing
from forwarder.runtime.replica import observer_of

_WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from forwarder.config.models import TracingSettings
from forwarder.core.errors import ConfigError
from forwarder.runtime.replica import observer_of
try:
    observer_of(TracingSettings(endpoint="http://127.0.0.1:9/v1/traces"), None, None, None)
except ConfigError as error:
    print(error)
"""


def made(wanted: TracingSettings | None) -> Observer:
    output = LogOutput(io.StringIO(), Redactor())
    return observer_of(wanted, Metrics(), output, SystemClock())


def test_spans_are_made_only_if_they_are_wanted() -> None:
    traced = made(TracingSettings(endpoint=AnyHttpUrl("http://127.0.0.1:9/v1/traces")))
    traced.close()

    assert type(traced.spans) is Tracing
    assert made(None).spans is None


def test_without_the_extra_the_fault_says_what_to_install() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", _WITHOUT], capture_output=True, text=True, timeout=60, check=True
    ).stdout

    assert "tracing: OpenTelemetry is not installed" in printed
    assert "pip install 'cloudflare-access-forwarder[otel]'" in printed
