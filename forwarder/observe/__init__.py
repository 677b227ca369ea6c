"""Every metric and log line, one function for each thing that happens."""

from forwarder.observe.expected import expect
from forwarder.observe.levels import (
    JournalLevels,
    Levels,
    LevelsCollector,
    SinkLevels,
    StreamLevels,
)
from forwarder.observe.metrics import Metrics, summed
from forwarder.observe.observer import Observer
from forwarder.observe.output import LogOutput
from forwarder.observe.redaction import Redactor

__all__ = [
    "JournalLevels",
    "Levels",
    "LevelsCollector",
    "LogOutput",
    "Metrics",
    "Observer",
    "Redactor",
    "SinkLevels",
    "StreamLevels",
    "expect",
    "summed",
]
