"""What the JSON formats share: objects without empty values, added fields, times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias

from forwarder.core.identity import dumps
from forwarder.core.schema import Event, Member, Provisioning
from forwarder.core.timing import format_seconds
from forwarder.formats.templates import Templated

Object = dict[str, Any]
Mappings: TypeAlias = Mapping[type, Callable[..., Object]]

USER_TYPES = {"email": "user", "address": "user", "service": "service"}
"""What the kinds of user are; a name says nothing of that."""

_DAY = 86_400
_REMEMBERED_DAYS = 64
_EMPTY: tuple[Any, ...] = ("", None, {}, [], ())


class JsonEvents(Templated):
    """A format that maps an event to an object; added fields are dotted paths into that object."""

    media_type = "application/json"
    request_bodies = True
    kinds: ClassVar[Mappings]
    """What maps each kind of event; pure and total."""

    def map(self, event: Event) -> Object:
        """Return ``event`` as an object that nobody else holds, without empty values."""
        return self.kinds[type(event)](event)

    def render(self, event: Event) -> bytes:
        """Map ``event`` and write it as JSON."""
        return dumps(add_fields(self.map(event), self._added))

    @staticmethod
    def time_text(time_us: int) -> str:
        """Return RFC 3339 with microseconds, UTC."""
        return iso_text(time_us)


def filled(given: Mapping[str, Any]) -> Object:
    """Return ``given`` without its empty texts, objects, lists and Nones; zero and False stay."""
    # Neither zero nor False equals any of these.
    return {key: value for key, value in given.items() if value not in _EMPTY}


def members_of(change: Provisioning) -> Object:
    """Return the members that a change of a group names, as lists of objects."""
    return {
        name: [
            {key: text for key, text in zip(Member._fields, member, strict=True) if text}
            for member in getattr(change, name)
        ]
        for name in ("members_added", "members_removed", "members_set")
    }


def add_fields(target: Object, fields: Mapping[str, str]) -> Object:
    """Put each text of ``fields`` into ``target`` at its dotted path, and return ``target``.

    An added field replaces what is there, as does an object that a path needs on its way.
    """
    for path, text in fields.items():
        *way, last = path.split(".")
        place = target
        for name in way:
            found = place.get(name)
            # A copy: a mapping may have put in a constant (a product), which all events share.
            place[name] = place = dict(found) if isinstance(found, Mapping) else {}
        place[last] = text
    return target


def iso_text(time_us: int) -> str:
    """Return ``2026-01-01T00:00:00.000000Z`` for microseconds since 1970."""
    seconds, rest = divmod(time_us, 1_000_000)
    day, second = divmod(seconds, _DAY)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f"{_date(day)}{hour:02d}:{minute:02d}:{second:02d}.{rest:06d}Z"


@lru_cache(_REMEMBERED_DAYS)
def _date(day: int) -> str:
    """Return date and ``T`` of the day of this number since 1970."""
    return format_seconds(day * _DAY * 1_000_000)[: len("2026-01-01T")]
