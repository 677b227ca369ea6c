"""Files on a disk of this machine, one event a line."""

from forwarder.sinks.file.rotation import FileConfig
from forwarder.sinks.file.sink import FileSink

__all__ = ["FileConfig", "FileSink"]
