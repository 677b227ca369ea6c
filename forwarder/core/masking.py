"""Hides secrets inside SCIM request bodies.

Called by the source on every row *after* its identity is taken, so that the journal never holds
a password, and again when a row is normalised, for rows stored by an older version.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import orjson

from forwarder.core.schema import RAW_BYTES_KEY

MASK = "**********"
REMOVED = "[removed]"
"""Stands for a text that a sink is not to get."""
UNREADABLE = "[masked: an unreadable body that may hold a secret]"

_WORDS = re.compile(
    "password|passwd|passphrase|passcode|pwd|secret|token|credential|apikey|accesskey|privatekey"
    "|authorization|bearer"
)
# Names of their own, but parts of harmless words: there is a pin in shipping.
_EXACT = frozenset({"auth", "cookie", "otp", "pass", "pin", "psk", "setcookie"})
# Bounded repeats: a hostile text must not make the search slow.
_ASSIGNED = re.compile(
    rf"(?i)((?:{_WORDS.pattern})[a-z_-]{{0,20}}[\"']?\s{{0,3}}[:=]\s{{0,3}}[\"']?"
    r"(?:(?:basic|bearer|splunk|token)\s{1,3})?)[^\s\"',;&]+"
)
_QUERY = re.compile(r"([?&]([^\s?&=#]{1,64})=)[^\s&#]+")
_HEADER = re.compile(r"([A-Za-z0-9_-]{1,64}):\s+\S.*", re.DOTALL)
_NAMING_KEYS = frozenset({"path", "name", "key", "attribute", "type", "id", "property"})
_HINTS = tuple(b"auth bearer cookie cred key otp pass pin psk pwd secret token".split())
"""One of them is in each of the words above; it costs less to look for these."""
_IN_HINTS = frozenset(b"".join(_HINTS))
_TO_SMALL = bytes(range(256)).lower()
_NOT_IN_HINTS = bytes(code for code in range(256) if code | 0x20 not in _IN_HINTS)
"""What no hint contains, such as digits: without it there is less to search."""
_NOISE = re.compile(r"[^a-z0-9]+")
# A SCIM path may hold a filter (RFC 7644, 3.5.2): emails[type eq "work"].
_FILTER = re.compile(r"\[.*?(\]|$)", re.DOTALL)
# JSON may write any letter as an escape (RFC 8259, 7), and so hide a word: p\u0061ssword.
_ESCAPE = re.compile(r"\\[^\"/]")
# From the first backslash of a run only: tried at each, a long run takes quadratic time.
_CODE = re.compile(r"(?<!\\)\\++u([0-9a-fA-F]{4})")
_CONTROL = re.compile(r"(?<!\\)\\++[bfnrt]")
_DEEPEST = 100


def mask_request_body(text: str) -> str:
    """Return ``text``, a JSON document or what is left of one, without its secrets.

    Masked is whatever stands under a key like ``password``, ``client_secret`` or ``api-key`` at
    any depth (also in JSON inside a string, in a list of headers and in the query of an address),
    and the ``value`` of a SCIM operation whose ``path`` is one. A document that names no such
    thing comes back as it is. One that does and cannot be read as JSON is replaced as a whole:
    where its secrets begin and end is anybody's guess.
    Pure, total and idempotent.
    """
    return _mask_text(text, _DEEPEST)


def mask_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``row`` without secrets in body and error; the very same object if it has none.

    The bytes of a row that could not be read are taken out if they name a secret.
    """
    body, data = row.get("request_body"), row.get(RAW_BYTES_KEY)
    error = row.get("error_description")
    if error and error != (masked_error := mask_error(error)):
        row = {**row, "error_description": masked_error}
    if body is not None:
        masked = mask_request_body(body) if isinstance(body, str) else _mask(body, _DEEPEST)
        if masked != body:
            row = {**row, "request_body": masked}
    # UNREADABLE has the word secret in it, and masking twice must change nothing.
    if data not in (None, UNREADABLE) and _names_secret(_decoded(data)):
        row = {**row, RAW_BYTES_KEY: UNREADABLE}
    return row


def mask_value(value: Any) -> Any:
    """Return a JSON value without its secrets, by the rules of ``mask_request_body``."""
    return _mask(value, _DEEPEST)


def mask_error(error: Any) -> Any:
    """Return an ``error_description`` without secrets: as a body, or as words with a value.

    ``password=hunter2`` and ``token: abc`` lose their values; a sentence about a password stays.
    """
    if not isinstance(error, str):
        return _mask(error, _DEEPEST)
    if error.lstrip()[:1] in {"{", "["}:
        return mask_request_body(error)
    return _ASSIGNED.sub(rf"\1{MASK}", error)


def is_secret_name(name: str) -> bool:
    """Return True if a key of this name holds a secret; case and punctuation do not matter."""
    squeezed = _NOISE.sub("", name.lower())
    return squeezed in _EXACT or _WORDS.search(squeezed) is not None


def _mask_text(text: str, depth: int) -> str:
    if not _suspicious(text):
        return text
    try:
        masked = _mask(orjson.loads(text), depth)
        return orjson.dumps(masked).decode()
    except (ValueError, TypeError):
        return UNREADABLE if _names_secret(_unescaped(text)) else text


def _suspicious(text: str) -> bool:
    """Return True if a secret's name may be in ``text``, spelled out or behind an escape."""
    return text != UNREADABLE and (
        _names_secret(text) or ("\\" in text and _ESCAPE.search(text) is not None)
    )


def _unescaped(text: str) -> str:
    """Undo the escapes of JSON, however often they were applied, near enough to find a word."""
    letters = _CODE.sub(lambda found: chr(int(found[1], 16)), text)
    return _CONTROL.sub("", letters)


def _names_secret(text: str) -> bool:
    # Some letters beyond ASCII become ASCII in small letters, such as the Kelvin sign.
    data = (text if text.isascii() else text.lower()).encode("utf-8", "surrogatepass")
    squeezed = data.translate(_TO_SMALL, _NOT_IN_HINTS)
    for hint in _HINTS:
        if hint in squeezed:
            break
    else:
        return False
    lower = text.lower()
    return _WORDS.search(_NOISE.sub("", lower)) is not None or any(word in lower for word in _EXACT)


def _decoded(data: Any) -> str:
    """Return what base64 stands for, as far as it is a text."""
    try:
        return base64.b64decode(data).decode("utf-8", "replace")
    except (TypeError, ValueError):
        return str(data)


def _mask(value: Any, depth: int) -> Any:
    if depth == 0:
        # Too deep to look into: a mask too many is better than a secret.
        return MASK
    if isinstance(value, dict):
        return _mask_object(value, depth)
    if isinstance(value, list):
        return [_mask_item(item, depth - 1) for item in value]
    if isinstance(value, str):
        if value.lstrip()[:1] in {"{", "["}:
            return _mask_text(value, depth - 1)
        return _QUERY.sub(_masked_parameter, value) if "=" in value else value
    return value


def _mask_item(item: Any, depth: int) -> Any:
    """Mask an item of a list, which may be a header: ``["name", "value"]``, ``"name: value"``."""
    match item:
        case [str(name), value] if is_secret_name(name):
            return [name, _hide(value)]
        case str() if (header := _HEADER.fullmatch(item)) and is_secret_name(header[1]):
            return f"{header[1]}: {MASK}"
    return _mask(item, depth)


def _masked_parameter(found: re.Match[str]) -> str:
    return found[1] + MASK if is_secret_name(found[2]) else found[0]


def _mask_object(given: dict[str, Any], depth: int) -> dict[str, Any]:
    # SCIM changes a value by {"path": "password", "value": ...} (RFC 7644, 3.5.2): the secret's
    # name stands beside the secret, not above it.
    names_secret = any(
        key.lower() in _NAMING_KEYS and isinstance(value, str) and _is_secret_path(value)
        for key, value in given.items()
    )
    masked = {}
    for key, value in given.items():
        if is_secret_name(key) or (names_secret and key.lower() not in {"op", *_NAMING_KEYS}):
            masked[key] = _hide(value)
        elif names_secret and isinstance(value, str):
            # A filter may hold the secret itself: tokens[value eq "..."].
            masked[key] = _FILTER.sub(f"[{MASK}]", value)
        else:
            masked[key] = _mask(value, depth - 1)
    return masked


def _is_secret_path(path: str) -> bool:
    return is_secret_name(_FILTER.sub("", path))


def _hide(value: Any) -> Any:
    """Mask anything but what says only that there is, or is not, something."""
    return value if value is None or isinstance(value, bool) else MASK
