"""What plugins report: any happening has a counter and a line, without a handler of its own.

A plugin's module is imported only when the settings name it, so its classes cannot be listed here.
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from forwarder.core.telemetry import TelemetryEvent
from forwarder.observe.lines import Level, Line, LogEvent
from forwarder.observe.metrics import Metrics

_WORD = re.compile(r"(?<!^)(?=[A-Z])")


def observe_plugin(event: TelemetryEvent, metrics: Metrics) -> Line:
    """Count a happening under its class' name and log it with its fields."""
    notice = notice_of(type(event))
    metrics.notices.labels(notice).inc()
    told: dict[str, Any] = {one.name: getattr(event, one.name) for one in fields(event)}
    unconfirmed = notice == "sent_unconfirmed"
    if unconfirmed:
        metrics.unconfirmed.labels(told["sink"]).inc(told["events"])
    level = Level.DEBUG if unconfirmed else Level.WARNING
    return Line(level, LogEvent.PLUGIN, {"code": notice, **told}, limited=True)


def notice_of(kind: type[TelemetryEvent]) -> str:
    """Return ``window_resent`` for ``WindowResent``."""
    return _WORD.sub("_", kind.__name__).lower()
