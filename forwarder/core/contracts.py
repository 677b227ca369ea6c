"""The contracts between the engine and its plugins.

A plugin is a class named by an entry point (``forwarder.sources``, ``forwarder.sinks``,
``forwarder.formats``); it is imported only when the settings name it. ``Config`` is its settings
model, a subclass of ``forwarder.transport.settings.PluginSettings``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

from forwarder.core.clock import Clock
from forwarder.core.happenings import Report, ignore
from forwarder.core.model import (
    Batch,
    BatchEvent,
    BatchLimits,
    Finding,
    Rejection,
    StoredPage,
    WriteResult,
)


class Sink(Protocol):
    """Carries batches to one destination. The engine batches, retries, splits and waits."""

    @property
    def limits(self) -> BatchLimits:
        """Return how large and how many batches may be; read once, before ``open``."""
        ...

    async def open(self) -> None:
        """Connect and prove that writing can work.

        Called before the first write and again after a write failed, once all writes in flight
        have ended. Raises ``TransientError`` (outage) or ``NeedsOperatorError`` (token, index,
        permission). Must be repeatable; must not create anything at the destination.
        """
        ...

    async def write(self, batch: Batch) -> WriteResult:
        """Return when the destination has the batch durably.

        May run ``limits.max_in_flight`` times at once and may be cancelled at any await. Never
        retries, sleeps or splits. An outage raises ``TransientError``, an operator's fault
        ``NeedsOperatorError``, a batch refused whole ``BatchRefusedError``, one too large
        ``BatchTooLargeError``. A refused event is a value in the result. When in doubt whether
        an event arrived, raise: a duplicate can be removed, a lost row cannot be found.
        """
        ...

    async def aclose(self) -> None:
        """Release everything; idempotent, safe without ``open``, done within seconds."""
        ...


class Diagnoses(Protocol):
    """What a plugin may offer beside its contract, for ``check --live``."""

    async def diagnose(self) -> Sequence[Finding]:
        """Look, change nothing, and say what is right, what is missing and what to do."""
        ...


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What the runtime gives a sink beside its settings.

    ``name`` is the sink's name in the settings, ``format`` the name of its format and
    ``media_type`` what that format produces (``application/json`` or ``text/plain``).
    ``user_agent`` names this program and version to the destination.
    """

    name: str
    format: str
    media_type: str
    clock: Clock
    user_agent: str = "forwarder"
    report: Report = ignore


class SinkPlugin(Protocol):
    """The class an entry point of ``forwarder.sinks`` names."""

    Config: ClassVar[type[Any]]
    default_format: ClassVar[str]
    summary: ClassVar[str]

    def __call__(self, config: Any, context: SinkContext) -> Sink:
        """Make the sink; does no I/O and raises ``ConfigError`` for what only it can judge."""
        ...


class Format(Protocol):
    """Turns a normalised event into bytes. Pure and total: any event gives one line.

    An event for which it raises all the same, or gives no bytes, becomes a dead letter of the sink.

    ``media_type`` is ``application/json`` or ``text/plain``. ``request_bodies`` says whether SCIM
    request bodies belong to an event unless a sink asks for the contrary.
    """

    media_type: str
    request_bodies: bool

    def render(self, event: Any) -> bytes:
        """Return the event (a kind of ``forwarder.core.schema``) without a line end."""
        ...

    def adding(self, fields: Mapping[str, str]) -> Format:
        """Return this format with ``fields`` in every event, in place of what is there.

        JSON formats read the names as dotted paths, the others as keys.
        """
        ...


class FormatPlugin(Protocol):
    """The class an entry point of ``forwarder.formats`` names.

    One whose schema is closed may have ``nearest_path(path: str) -> str``, too: what is given back
    if an event may have a text there, else the nearest path where it may. ``add_fields`` is warned
    about with it.
    """

    Config: ClassVar[type[Any]]
    summary: ClassVar[str]

    def __call__(self, config: Any) -> Format:
        """Make the format; does no I/O."""
        ...


@dataclass(frozen=True, slots=True)
class Rendered:
    """A stored page as one sink will send it.

    ``events`` are in offset order; what the sink's filters dropped is missing there and counted in
    ``filtered``. ``end_offset`` is the offset after the page: all below it is accounted for.
    ``failed`` names the rows that could not be rendered, in offset order: they become dead letters.
    """

    events: Sequence[BatchEvent]
    end_offset: int
    filtered: int = 0
    failed: Sequence[Rejection] = ()


Render: TypeAlias = Callable[[StoredPage], Rendered]
"""Normalises, filters, shapes and renders; pure, never raises for a row. One for each sink."""
