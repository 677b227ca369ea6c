"""Any HTTP endpoint that takes JSON lines, a JSON array or lines of text."""

from forwarder.sinks.http.sink import HttpSink, HttpSinkConfig

__all__ = ["HttpSink", "HttpSinkConfig"]
