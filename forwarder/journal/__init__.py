"""The only room that knows SQLite: rows, positions, offsets, dead letters, gaps, retention."""

from forwarder.journal.journal import Journal, Usage
from forwarder.journal.lanes import SinkPlace
from forwarder.journal.reader import JournalReader
from forwarder.journal.retention import Keeping

__all__ = ["Journal", "JournalReader", "Keeping", "SinkPlace", "Usage"]
