"""A short name for the settings in force, to see which pods run which."""

from __future__ import annotations

from hashlib import blake2b

import orjson

from forwarder.config import ForwarderSettings, effective


def fingerprint(settings: ForwarderSettings) -> str:
    """Return 12 hex digits over the effective settings; secrets do not take part."""
    text = orjson.dumps(effective(settings), option=orjson.OPT_SORT_KEYS)
    return blake2b(text, digest_size=6).hexdigest()
