"""What the syslog sink reports."""

from __future__ import annotations

from dataclasses import dataclass

from forwarder.core.happenings import Happening


@dataclass(frozen=True, slots=True)
class SentUnconfirmed(Happening):
    """``events`` left as UDP datagrams; nobody will ever say whether they arrived."""

    sink: str
    events: int


@dataclass(frozen=True, slots=True)
class WindowResent(Happening):
    """A connection broke, and ``events`` that might not have been read were sent again."""

    sink: str
    receiver: str
    events: int
