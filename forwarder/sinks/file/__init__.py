"""Files on a disk of this machine, one event a line."""

from forwarder.sinks.file.sink import FileConfig, FileSink

__all__ = ["FileConfig", "FileSink"]
