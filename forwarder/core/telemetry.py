"""Telemetry as named things that happened.

Each room declares its events in its ``events.py`` and emits one with one call. An event describes
its own log line; ``observe`` writes the line and moves the metrics, so that the two cannot
disagree. An event carries counts and names, never a row and never a secret.

    @event("sink_throttled", INFO, limited=True)
    class SinkThrottled(SinkEvent):
        window: int
        retry_after: float | None = shown("retry_after_seconds")

The first sentence of the class' docstring is what docs/logs.md says about the line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, dataclass_transform

from forwarder.core.timing import format_us

E = TypeVar("E", bound="TelemetryEvent")
Conversion: TypeAlias = Callable[[Any], Any]


class Level(IntEnum):
    """Severities, as the standard library numbers them."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


DEBUG, INFO, WARNING, ERROR = Level


@dataclass(frozen=True, slots=True)
class Description:
    """The log line that all events of one class share.

    ``levels`` holds one level, or two if ``TelemetryEvent.is_worse`` chooses between them.
    Repeats of a ``limited`` line within a minute are counted, not written. ``code`` is set for
    events of plugins: they share the line ``plugin``. ``shown`` lists attribute, keys and
    conversion of each field in the line.
    """

    line: str
    levels: tuple[Level, ...]
    limited: bool
    hint: str
    code: str
    shown: Sequence[tuple[str, tuple[str, ...], Conversion | None]]

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys that the line can have, in their order."""
        own = [key for _, keys, _ in self.shown for key in keys]
        return (*["code"] * bool(self.code), *own, *["hint"] * bool(self.hint))

    def values(self, one: TelemetryEvent) -> dict[str, Any]:
        """Return the keys and values of the line of one event."""
        found: dict[str, Any] = {"code": self.code} if self.code else {}
        for name, keys, convert in self.shown:
            value = getattr(one, name)
            if convert is not None:
                value = convert(value)
            if len(keys) == 1:
                found[keys[0]] = value
            else:
                found.update(zip(keys, value, strict=True))
        if self.hint:
            found["hint"] = self.hint.format_map(found)
        return found


@dataclass(frozen=True, slots=True)
class TelemetryEvent:
    """Something that happened once, at the moment it is emitted."""

    description: ClassVar[Description | None]
    """How to log the event; None if it moves metrics only."""

    @classmethod
    def describe(cls, description: Description | None) -> None:
        """Set the description of all events of the class; the decorator ``event`` calls this."""
        cls.description = description

    def is_worse(self) -> bool:
        """Return True if the line takes the second of the declared levels."""
        return False


@dataclass(frozen=True, slots=True)
class PluginEvent(TelemetryEvent):
    """A plugin reported something of its own; `code` says what.

    Its line is named ``plugin``, its own name is the line's ``code`` and the label of
    ``forwarder_plugin_notices_total``.
    """


def shown(*keys: str, by: Conversion | None = None) -> Any:
    """Show a field under another key, or as ``by`` converts it.

    With several keys ``by`` returns one value for each. Values that are None or an empty text
    leave their key out of the line.
    """
    return field(metadata={"keys": keys, "by": by})


def rounded(digits: int, key: str = "") -> Any:
    """Show a number with so many decimal places; a whole number for 0."""
    # round(x, 0) gives a float, round(x, None) a whole number.
    return shown(*filter(None, [key]), by=lambda value: round(value, digits or None))


def instant(key: str) -> Any:
    """Show microseconds since 1970 as a time in UTC."""
    return shown(key, by=format_us)


def hidden() -> Any:
    """Keep a field out of the log line; it is for the metrics."""
    return field(metadata={"keys": None})


def constant(value: str, *, init: Literal[False] = False) -> Any:
    """Show the same text in every event of the class."""
    # init=False: a constant may stand before fields that the constructor needs.
    return field(default=value, init=init)


@dataclass_transform(
    frozen_default=True, field_specifiers=(field, shown, rounded, instant, hidden, constant)
)
def event(
    name: str = "", *levels: Level, limited: bool = False, hint: str = ""
) -> Callable[[type[E]], type[E]]:
    """Make a class a frozen dataclass that describes its log line.

    ``name`` is the line's ``event``, which people search for and alert on; without a name the
    event moves metrics only. Two ``levels`` need ``is_worse``. ``hint`` may hold keys of the line
    in braces.
    """

    def decorate(cls: type[E]) -> type[E]:
        # With slots this is a second class; the one that was decorated is never used again.
        made = dataclass(frozen=True, slots=True)(cls)
        made.describe(_description(made, name, levels, limited=limited, hint=hint))
        return made

    return decorate


def _description(
    cls: type[TelemetryEvent], name: str, levels: tuple[Level, ...], *, limited: bool, hint: str
) -> Description | None:
    if not name:
        return None
    line, code = ("plugin", name) if issubclass(cls, PluginEvent) else (name, "")
    fields_shown = tuple(
        (one.name, one.metadata.get("keys") or (one.name,), one.metadata.get("by"))
        for one in fields(cls)
        # None is what hidden() says; a plain field says nothing and is shown.
        if one.metadata.get("keys", ()) is not None
    )
    return Description(line, levels, limited, hint, code, fields_shown)


@event("sent_unconfirmed", DEBUG, limited=True)
class SentUnconfirmed(PluginEvent):
    """A sink sent events to a destination that never confirms their arrival."""

    sink: str
    events: int


@event()
class CertificateSeen(TelemetryEvent):
    """A certificate is in use: of a ``sink NAME`` or a ``listener NAME``.

    ``side`` is ``theirs`` for what the other side has shown, ``ours`` for what we show; times are
    seconds since 1970.
    """

    where: str
    side: str
    valid_from_s: float
    expires_s: float


Emit: TypeAlias = Callable[[TelemetryEvent], None]
"""What the logic emits with: it returns at once and never raises."""


def ignore(_: TelemetryEvent) -> None:
    """Emit to nobody; for code that runs outside the daemon."""
