"""Keeps values from a sink: fields dropped or hashed, SCIM bodies left out.

``drop_fields`` and ``hash_fields`` name keys of the *row* (dots lead into objects), the same for
every format, and apply before anything is made of the row: so a hidden value reaches no attribute
of any format. It is also taken out of all other texts of the row; an e-mail address that is hidden
is hidden in the error message and in the SCIM body, too.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from forwarder.core.identity import dumps
from forwarder.core.schema import RAW_BYTES_KEY, Event, Provisioning

REMOVED = "[removed]"
_HASH_DIGITS = 32
_HOLD_BODIES = frozenset({"request_body", RAW_BYTES_KEY})
_LONG = 6
"""A shorter hidden text is looked for as a whole text only: there is a ``US`` in ``USER``."""


class Hider:
    """Hides fields of rows. Pure: the same row and key give the same result everywhere."""

    def __init__(self, drop: Sequence[str], hashed: Sequence[str], key: bytes) -> None:
        """Take paths into a row; a path in both is dropped. ``key`` is the hashes' key."""
        self._dropped = frozenset(drop)
        self._paths = (*drop, *(path for path in hashed if path not in self._dropped))
        self._key = key

    def hide(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return ``row`` without what is hidden, the very same object if it has nothing of it.

        The bytes of a row that could not be read are removed: nobody knows what is in them.

        A text is replaced by 32 hex digits of its HMAC-SHA256, a number by those of its JSON; so
        is each text within a list or object. Booleans say too little to be hashed and stay.
        """
        if RAW_BYTES_KEY in row:
            row = {**row, RAW_BYTES_KEY: REMOVED}
        found = {path: value for path in self._paths if (value := _get(row, path)) is not None}
        if not found:
            return row
        secrets: dict[str, str] = {}
        for path, value in found.items():
            for text in _texts(value):
                secrets[text] = REMOVED if path in self._dropped else self._hash(text)
        visible = row
        for path in found:
            visible = _put(visible, path, None, remove=path in self._dropped)
        visible = _Scrub(secrets).value(visible) if secrets else visible
        for path, value in found.items():
            if path not in self._dropped:
                visible = _put(visible, path, self._hashed(value), remove=False)
        return visible

    def _hashed(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._hash(value) if value else value
        if isinstance(value, Mapping):
            return {key: self._hashed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._hashed(item) for item in value]
        return value if value is None or isinstance(value, bool) else self._hash(str(value))

    def _hash(self, text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, data, "sha256").hex()[:_HASH_DIGITS]


def without_body(event: Event) -> Event:
    """Return ``event`` without its SCIM request body and the names of members read out of it.

    What the body asked for (the activity, the ids of members) stays.
    """
    return event.without_body(keys=_HOLD_BODIES) if isinstance(event, Provisioning) else event


class _Scrub:
    """Takes texts out of whatever they are in; case does not matter."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """Take the texts and what to write instead."""
        ordered = sorted(secrets.items(), key=lambda item: -len(item[0]))
        self._whole = {text.lower(): new for text, new in ordered}
        self._within = [(text.lower(), new) for text, new in ordered if _is_long(text)]

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {self._text(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return value

    def _text(self, text: str) -> str:
        if text[:1] in {"{", "["} and (inner := self._json(text)) is not None:
            return inner
        whole = self._whole.get(text.lower())
        if whole is not None:
            return whole
        for secret, new in self._within:
            text = _replace(text, secret, new)
        return text

    def _json(self, text: str) -> str | None:
        """Scrub JSON inside a text; None if it is none. What hides behind escapes is removed."""
        try:
            value = orjson.loads(text)
        except ValueError:
            return REMOVED if "\\" in text else None
        scrubbed = self.value(value)
        return text if scrubbed == value else dumps(scrubbed).decode()


def _replace(text: str, secret: str, new: str) -> str:
    """Replace ``secret`` (in small letters) in ``text`` in whatever case."""
    lower = text.lower()
    if secret not in lower:
        return text
    if len(lower) != len(text):
        return REMOVED
    parts, start = [], 0
    while (at := lower.find(secret, start)) >= 0:
        parts += [text[start:at], new]
        start = at + len(secret)
    return "".join([*parts, text[start:]])


def _is_long(text: str) -> bool:
    return len(text) >= _LONG or "@" in text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _get(row: Mapping[str, Any], path: str) -> Any:
    """Return what is at ``path``, None if nothing is; a key that has dots itself comes first."""
    if path in row:
        return row[path]
    name, dot, rest = path.partition(".")
    inner = row.get(name)
    return _get(inner, rest) if dot and isinstance(inner, Mapping) else None


def _put(row: Mapping[str, Any], path: str, value: Any, *, remove: bool) -> Mapping[str, Any]:
    """Return a copy of ``row`` with ``value`` at ``path``, or with nothing there."""
    name, _, rest = path.partition(".")
    if path not in row and isinstance(row.get(name), Mapping):
        return {**row, name: _put(row[name], rest, value, remove=remove)}
    if remove:
        return {key: item for key, item in row.items() if key != path}
    return {**row, path: value}
