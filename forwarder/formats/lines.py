"""What CEF and LEEF share: texts that come from attackers, made safe for one line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self, TypeAlias

from forwarder.core.errors import ConfigError, Fault
from forwarder.core.schema import Login, Member, Provisioning
from forwarder.formats.templates import Templated

VENDOR, PRODUCT, PRODUCT_VERSION = "Cloudflare", "Access", "1"

Fields = dict[str, Any]
"""Texts and numbers by key; an empty text and None stand for nothing."""
Mappings: TypeAlias = Mapping[type, tuple[Callable[..., str], Callable[..., Fields]]]

# Whatever ends a line somewhere, and what turns the direction of writing: a name could otherwise
# show the rest of the line backwards.
_SEPARATORS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]"
)
_EMPTY = ("", None)
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


class EventLines(Templated):
    """A format of lines with a head and ``key=value`` pairs; added fields are keys."""

    media_type = "text/plain"
    request_bodies = False
    name: ClassVar[str]
    kinds: ClassVar[Mappings]
    """What writes the head and what the fields of each kind of event."""

    def adding(self, fields: Mapping[str, str]) -> Self:
        """Return this format with ``fields`` in every event.

        Raises ``ConfigError`` for a name that cannot be a key.
        """
        faults = [
            Fault("add_fields", f"{key!r} cannot be a key in {self.name}", "use letters and digits")
            for key in fields
            if not _KEY.fullmatch(key)
        ]
        if faults:
            raise ConfigError(faults)
        return super().adding(fields)

    def has_template(self, event: Login | Provisioning) -> bool:
        """Return False for a change with a body or many members."""
        # A line escapes a body in its own way, and cuts long lists.
        return isinstance(event, Login) or not (event.request_body or event.is_long)

    @staticmethod
    def time_text(time_us: int) -> str:
        """Return milliseconds since 1970."""
        return str(time_us // 1000)

    def filled(self, fields: Fields) -> dict[str, str]:
        """Return ``fields`` as texts, without those that are empty, and with the added ones."""
        texts = {key: str(value) for key, value in fields.items() if value not in _EMPTY}
        return {**texts, **self._added}


def clean(text: str, limit: int | None = None) -> str:
    """Return ``text`` as one line of at most ``limit`` bytes of UTF-8, or of any length.

    Control characters, line ends and what turns the direction of writing become a space each,
    lone surrogates ``?``. A cut never halves a character. Cleaning twice changes nothing.
    """
    line = _SEPARATORS.sub(" ", text).encode("utf-8", "replace")
    return line[:limit].decode("utf-8", "ignore")


def identifier(text: str) -> str:
    """Return ``text`` with nothing in it but letters, digits, ``_``, ``.`` and ``-``."""
    return _NO_NAME.sub("_", text)


def members_text(members: Iterable[Member]) -> str:
    """Return members as ``id (name); id; ...``."""
    return "; ".join(
        f"{member.value} ({member.display})" if member.display else member.value
        for member in members
    )
