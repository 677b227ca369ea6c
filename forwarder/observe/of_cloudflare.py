"""The Cloudflare client's happenings: metric and line."""

from __future__ import annotations

from typing import Any

from forwarder.observe.lines import Level, Line, LogEvent
from forwarder.observe.metrics import Metrics
from forwarder.observe.table import Table
from forwarder.sources.cloudflare_access.events import (
    BodyRepaired,
    ProvidersChanged,
    ProvidersNotListed,
    RequestMade,
    TokenBlocked,
)

TABLE = Table()


@TABLE.on(RequestMade)
def _request(event: RequestMade, metrics: Metrics) -> None:
    account = event.account
    metrics.api_requests.labels(account, event.endpoint, event.outcome).inc()
    metrics.api_duration.labels(event.endpoint).observe(event.seconds)
    metrics.api_throttled.labels(account).inc(event.waited)
    if event.budget_left is not None:
        metrics.api_budget.labels(account).set(event.budget_left)


@TABLE.on(TokenBlocked)
def _blocked(event: TokenBlocked, _: Metrics) -> Line:
    fields = {
        **_of(event),
        "seconds": round(event.seconds),
        "hint": "something else uses this token; lower rate_limit.share or give it its own",
    }
    return Line(Level.WARNING, LogEvent.TOKEN_BLOCKED, fields, limited=True)


@TABLE.on(BodyRepaired)
def _repaired(event: BodyRepaired, _: Metrics) -> Line:
    fields = {**_of(event), "rows": event.rows, "malformed": event.malformed}
    return Line(Level.WARNING, LogEvent.BODY_REPAIRED, fields, limited=True)


@TABLE.on(ProvidersChanged)
def _providers(event: ProvidersChanged, _: Metrics) -> Line:
    fields = {
        "account": event.account,
        "appeared": event.appeared,
        "vanished": event.vanished,
    }
    return Line(Level.INFO, LogEvent.PROVIDERS_CHANGED, fields)


@TABLE.on(ProvidersNotListed)
def _not_listed(event: ProvidersNotListed, _: Metrics) -> Line:
    fields = {
        "account": event.account,
        "known": event.known,
        "error": event.problem,
        "hint": event.hint,
    }
    return Line(Level.WARNING, LogEvent.PROVIDERS_NOT_LISTED, fields, limited=True)


def _of(event: TokenBlocked | BodyRepaired) -> dict[str, Any]:
    return {"account": event.account, "endpoint": event.endpoint}
