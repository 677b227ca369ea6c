"""Syslog over UDP, TCP and TLS."""

from forwarder.sinks.syslog.sink import SyslogSink

__all__ = ["SyslogSink"]
