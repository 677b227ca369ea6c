"""Syslog messages over RELP, each acknowledged by the receiver's program."""

from forwarder.sinks.relp.sink import RelpSink

__all__ = ["RelpSink"]
