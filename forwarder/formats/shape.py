"""What one sink gets of each event: filters, hidden fields, added fields.

``drop_fields`` and ``hash_fields`` name keys of the *row* (dots lead into objects), the same for
every format, and apply before anything is made of the row: so a hidden value reaches no attribute
of any format. It is also taken out of all other texts of the row; an e-mail address that is hidden
is hidden in the error message and in the SCIM body, too.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any

import orjson

from forwarder.core.identity import dumps
from forwarder.core.masking import REMOVED
from forwarder.core.schema import RAW_BYTES_KEY, AdminActivity, Bodies, Event, Login, Provisioning

_HASH_DIGITS = 32
_LONG = 6
"""A shorter hidden text is looked for as a whole text only: there is a ``US`` in ``USER``."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Events that fit every key that is given; one value of a key is enough, ``*`` stands for any.

    ``app`` fits an application's name, domain, host or id. Case does not matter. A key that an
    event has no value for (the app of a SCIM change) fits nothing.
    """

    stream: tuple[str, ...] = ()
    outcome: tuple[str, ...] = ()
    action: tuple[str, ...] = ()
    app: tuple[str, ...] = ()
    connection: tuple[str, ...] = ()

    def fits(self, event: Event) -> bool:
        """Return True if ``event`` fits; every event fits a filter without keys."""
        return all(
            _any_fits(getattr(self, key.name), _values(event, key.name))
            for key in fields(self)
            if getattr(self, key.name)
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """What one sink wants to get, of all that its format could say.

    ``drop_fields`` and ``hash_fields`` are keys of the row (dotted paths), ``hash_key`` is the
    hashes' key, ``add_fields`` pairs of a dotted path or key and a text.
    ``redact_request_body`` None leaves SCIM bodies out where the format does so by itself.
    """

    only: EventFilter | None = None
    unless: EventFilter | None = None
    drop_fields: tuple[str, ...] = ()
    hash_fields: tuple[str, ...] = ()
    hash_key: bytes = field(default=b"", repr=False)
    add_fields: tuple[tuple[str, str], ...] = ()
    redact_request_body: bool | None = None

    def hider(self) -> Hider | None:
        """Return what hides fields of rows, None if none is to be hidden."""
        if not (self.drop_fields or self.hash_fields):
            return None
        return Hider(self.drop_fields, self.hash_fields, self.hash_key)

    def bodies(self, *, usual: bool) -> Bodies:
        """Return how much of a SCIM body the sink gets; ``usual`` is what its format does."""
        if self.redact_request_body is None:
            # A format that has no room for bodies still says who came to a group.
            return Bodies.WHOLE if usual else Bodies.NAMES
        # A sink that asks for no bodies gets no names out of them either.
        return Bodies.NOTHING if self.redact_request_body else Bodies.WHOLE

    def wants(self, event: Event) -> bool:
        """Return True if the sink gets ``event``."""
        return (self.only is None or self.only.fits(event)) and (
            self.unless is None or not self.unless.fits(event)
        )


def _any_fits(patterns: tuple[str, ...], values: tuple[str, ...]) -> bool:
    return any(
        fnmatchcase(value.casefold(), pattern.casefold())
        for pattern in patterns
        for value in values
        if value
    )


def _values(event: Event, key: str) -> tuple[str, ...]:
    if key == "stream":
        return event.origin.stream, event.origin.stored_as
    if key == "outcome":
        return (event.outcome,)
    if key == "action":
        return (event.action,)
    if not isinstance(event, Login):
        return ()
    if key == "connection":
        return (event.connection,)
    return (event.app_name, event.app_domain, event.host, event.app_uid)


def showing(event: Event, bodies: Bodies) -> Event:
    """Return ``event`` with no more of its bodies than ``bodies`` allows."""
    return event.showing(bodies) if isinstance(event, Provisioning | AdminActivity) else event


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
        # Scrubbing has gone through the hidden fields, too; now they get their own hashes.
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
        # Not "replace": different broken texts would get one hash.
        data = text.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, data, "sha256").hex()[:_HASH_DIGITS]


class _Scrub:
    """Takes texts out of whatever they are in; case does not matter."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """Take the texts and what to write instead."""
        # A secret may be part of a longer one, which has to be replaced first.
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
        """Scrub JSON inside a text; None if it is not JSON. Removes what hides behind escapes."""
        try:
            value = orjson.loads(text)
        except ValueError:
            return REMOVED if "\\" in text else None
        scrubbed = self.value(value)
        return text if scrubbed == value else dumps(scrubbed).decode()


def _replace(text: str, secret: str, new: str) -> str:
    """Replace ``secret`` (in small letters) in ``text`` in any case."""
    lower = text.lower()
    if secret not in lower:
        return text
    # Some letters grow when made small (U+0130), so places in the two texts differ: better to
    # remove all than to leave a part of the secret.
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
