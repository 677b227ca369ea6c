"""Any HTTP endpoint that takes JSON lines, a JSON array or lines of text."""

from forwarder.sinks.http.config import HttpSinkConfig
from forwarder.sinks.http.sink import HttpSink

__all__ = ["HttpSink", "HttpSinkConfig"]
