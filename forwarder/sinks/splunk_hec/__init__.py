"""Splunk's HTTP Event Collector (HEC), with or without indexer acknowledgement."""

from forwarder.sinks.splunk_hec.envelope import SplunkHecConfig
from forwarder.sinks.splunk_hec.sink import SplunkHecSink

__all__ = ["SplunkHecConfig", "SplunkHecSink"]
