"""What the Cloudflare client reports: names and counts, never a row, a body or a secret."""

from __future__ import annotations

from dataclasses import dataclass

from forwarder.core.telemetry import TelemetryEvent


@dataclass(frozen=True, slots=True)
class RequestMade(TelemetryEvent):
    """One request is over, whatever came of it.

    ``outcome`` is ``2xx`` to ``5xx`` or ``none`` without an answer; ``seconds`` from sending to
    the last byte; ``waited`` the seconds the budget held it back before; ``budget_left`` the
    requests that may go at once, None without a limit.
    """

    account: str
    endpoint: str
    outcome: str
    seconds: float
    waited: float
    budget_left: int | None


@dataclass(frozen=True, slots=True)
class TokenBlocked(TelemetryEvent):
    """Cloudflare refuses everything with this token for ``seconds``."""

    account: str
    endpoint: str
    seconds: float


@dataclass(frozen=True, slots=True)
class BodyRepaired(TelemetryEvent):
    """An answer was no clean JSON and was read row by row.

    ``rows`` is how many it had, ``malformed`` how many of them could not be read as they were.
    """

    account: str
    endpoint: str
    rows: int
    malformed: int


@dataclass(frozen=True, slots=True)
class ProvidersChanged(TelemetryEvent):
    """The identity providers that provision over SCIM are not the ones that were known."""

    account: str
    appeared: tuple[str, ...]
    vanished: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProvidersNotListed(TelemetryEvent):
    """The identity providers could not be listed; ``known`` of them are polled further."""

    account: str
    known: int
    problem: str
    hint: str
