"""What CEF and LEEF share: texts that come from attackers, made safe for one line."""

from __future__ import annotations

import re
from collections.abc import Mapping

from forwarder.core.errors import ConfigError, Fault
from forwarder.core.provisioning import Provisioning

VENDOR, PRODUCT, PRODUCT_VERSION = "Cloudflare", "Access", "1"

_SEPARATORS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]"
)
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


def clean(text: str, limit: int) -> str:
    """Return ``text`` as one line of at most ``limit`` bytes of UTF-8.

    Control characters, line ends and what turns the direction of writing become a space each,
    lone surrogates ``?``. A cut never halves a character. Cleaning twice changes nothing.
    """
    line = _SEPARATORS.sub(" ", text).encode("utf-8", "replace")
    return line[:limit].decode("utf-8", "ignore")


def identifier(text: str) -> str:
    """Return ``text`` with nothing in it but letters, digits, ``_``, ``.`` and ``-``."""
    return _NO_NAME.sub("_", text)


def checked_keys(fields: Mapping[str, str], format_name: str) -> Mapping[str, str]:
    """Return ``fields`` if each name can be a key; raises ``ConfigError`` otherwise."""
    faults = [
        Fault("add_fields", f"{name!r} cannot be a key in {format_name}", "use letters and digits")
        for name in fields
        if not _KEY.fullmatch(name)
    ]
    if faults:
        raise ConfigError(faults)
    return fields


def members_text(change: Provisioning) -> str:
    """Return the ids of the members that were added or removed."""
    return " ".join(member.value for member in change.members)
