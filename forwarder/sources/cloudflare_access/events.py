"""What the Cloudflare client emits: names and counts, never a row, a body or a secret."""

from __future__ import annotations

from forwarder.core.telemetry import INFO, WARNING, TelemetryEvent, event, rounded, shown


@event()
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


@event(
    "token_blocked",
    WARNING,
    limited=True,
    hint="something else uses this token; lower rate_limit.share or give it its own",
)
class TokenBlocked(TelemetryEvent):
    """Cloudflare blocks the token for using up its request budget."""

    account: str
    endpoint: str
    seconds: float = rounded(0)


@event(
    "budget_exhausted",
    WARNING,
    limited=True,
    hint="nothing is read meanwhile; raise rate_limit.share, or see what else uses this token",
)
class BudgetExhausted(TelemetryEvent):
    """A live request has waited for minutes because the request budget is used up.

    The budget is the one of the settings, or the rest that Cloudflare announces.
    """

    account: str
    seconds: float = rounded(0, "waited_seconds")


@event("body_repaired", WARNING, limited=True, hint="report it to Cloudflare with the cf_ray")
class BodyRepaired(TelemetryEvent):
    """An answer of Cloudflare was not valid JSON; its rows were read one by one.

    ``rows`` is how many rows it had; ``malformed`` of them were kept as text. ``ray`` is the
    answer's cf-ray, empty without one.
    """

    account: str
    endpoint: str
    rows: int
    malformed: int
    ray: str = shown("cf_ray")


@event("providers_changed", INFO)
class ProvidersChanged(TelemetryEvent):
    """Identity providers with SCIM provisioning appeared or vanished at Cloudflare."""

    account: str
    appeared: tuple[str, ...]
    vanished: tuple[str, ...]


@event("providers_not_listed", WARNING, limited=True)
class ProvidersNotListed(TelemetryEvent):
    """The identity providers cannot be listed; the known ones are still read."""

    account: str
    known: int
    problem: str = shown("error")
    hint: str
