"""What the receiver emits: counts and names, never a row, a body or a secret."""

from __future__ import annotations

from forwarder.core.telemetry import (
    DEBUG,
    ERROR,
    INFO,
    WARNING,
    TelemetryEvent,
    event,
    hidden,
    shown,
)


@event()
class RequestAnswered(TelemetryEvent):
    """A request has got its answer; ``result`` is a label of the metrics."""

    result: str


@event("logpush_listening", INFO)
class LogpushListening(TelemetryEvent):
    """The receiver of Logpush listens at this address."""

    url: str


@event("logpush_tls_unusable", ERROR, limited=True)
class LogpushTlsUnusable(TelemetryEvent):
    """The receiver's new certificate or key is invalid; the last valid ones stay in use."""

    error: str
    hint: str


@event("logpush_stored", DEBUG)
class PushStored(TelemetryEvent):
    """A pushed body was stored.

    ``size`` is in bytes as it was sent, ``rows`` counts its lines; ``oldest`` is the age of its
    oldest row, None without a time.
    """

    account: str
    dataset: str
    rows: int
    size: int = shown("bytes")
    at_s: float = hidden()
    oldest_s: float | None = hidden()


@event("logpush_refused", WARNING, limited=True)
class PushRefused(TelemetryEvent):
    """A push was refused; Cloudflare sends it again. Nothing of it was stored."""

    result: str
    peer: str
    path: str
    status: int
    reason: str


@event(
    "logpush_unavailable",
    WARNING,
    limited=True,
    hint="Cloudflare sends it again; see forwarder status",
)
class PushDelayed(PushRefused):
    """A valid push could not be stored yet."""


@event(
    "logpush_secret_refused",
    WARNING,
    limited=True,
    hint="if Cloudflare sent it, give the job the secret of the settings",
)
class SecretRefused(TelemetryEvent):
    """A request without the right secret was refused; nothing of it was read."""

    peer: str


@event(
    "logpush_given_up",
    ERROR,
    hint="its beginning is a malformed event, the rest is lost: a gap records it",
)
class PushGivenUp(TelemetryEvent):
    """An invalid body was pushed repeatedly; it was accepted without its rows."""

    account: str
    dataset: str
    reason: str
    refusals: int
