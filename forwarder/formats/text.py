"""The format ``text``: one line for people, as on a terminal or in a file that somebody reads."""

from __future__ import annotations

from typing import ClassVar

from forwarder.core.schema import Event
from forwarder.core.timing import format_seconds
from forwarder.formats.lines import EventLines, clean


class TextFormat(EventLines):
    """The time, a sentence, and ``id=...``; added fields follow as ``key=value``."""

    summary: ClassVar[str] = "one line for people: time and a sentence"
    name = "text"

    def render(self, event: Event) -> bytes:
        """Write what happened, to whom and where, as one line."""
        fields = self.filled({"id": event.id})
        pairs = " ".join(f"{key}={clean(text)}" for key, text in fields.items())
        return f"{self.time_text(event.time_us)}  {clean(event.message)}  {pairs}".encode()

    @staticmethod
    def time_text(time_us: int) -> str:
        """Return RFC 3339 to the second, UTC."""
        return format_seconds(time_us)
