"""Which events a sink wants: ``only`` and ``except``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fnmatch import fnmatchcase

from forwarder.core.login import Login
from forwarder.core.schema import Event


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
        """Say whether ``event`` is meant; a filter without keys means every event."""
        return all(
            _any_fits(getattr(self, key.name), _values(event, key.name))
            for key in fields(self)
            if getattr(self, key.name)
        )


def wanted(event: Event, only: EventFilter | None, unless: EventFilter | None) -> bool:
    """Say whether a sink with these settings gets ``event``."""
    return (only is None or only.fits(event)) and (unless is None or not unless.fits(event))


def _any_fits(patterns: tuple[str, ...], values: tuple[str, ...]) -> bool:
    return any(
        fnmatchcase(value.casefold(), pattern.casefold())
        for pattern in patterns
        for value in values
        if value
    )


def _values(event: Event, key: str) -> tuple[str, ...]:
    if key == "stream":
        return (event.origin.stream,)
    if key == "outcome":
        return (event.outcome,)
    if key == "action":
        return (event.action,)
    if not isinstance(event, Login):
        return ()
    if key == "connection":
        return (event.connection,)
    return (event.app_name, event.app_domain, event.host, event.app_uid)
