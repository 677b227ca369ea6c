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
def _request(happening: RequestMade, metrics: Metrics) -> None:
    account = happening.account
    metrics.api_requests.labels(account, happening.endpoint, happening.outcome).inc()
    metrics.api_duration.labels(happening.endpoint).observe(happening.seconds)
    metrics.api_throttled.labels(account).inc(happening.waited)
    if happening.budget_left is not None:
        metrics.api_budget.labels(account).set(happening.budget_left)


@TABLE.on(TokenBlocked)
def _blocked(happening: TokenBlocked, _: Metrics) -> Line:
    fields = {
        **_of(happening),
        "seconds": round(happening.seconds),
        "hint": "something else uses this token; lower rate_limit.share or give it its own",
    }
    return Line(Level.WARNING, LogEvent.TOKEN_BLOCKED, fields, limited=True)


@TABLE.on(BodyRepaired)
def _repaired(happening: BodyRepaired, _: Metrics) -> Line:
    fields = {**_of(happening), "rows": happening.rows, "malformed": happening.malformed}
    return Line(Level.WARNING, LogEvent.BODY_REPAIRED, fields, limited=True)


@TABLE.on(ProvidersChanged)
def _providers(happening: ProvidersChanged, _: Metrics) -> Line:
    fields = {
        "account": happening.account,
        "appeared": happening.appeared,
        "vanished": happening.vanished,
    }
    return Line(Level.INFO, LogEvent.PROVIDERS_CHANGED, fields)


@TABLE.on(ProvidersNotListed)
def _not_listed(happening: ProvidersNotListed, _: Metrics) -> Line:
    fields = {
        "account": happening.account,
        "known": happening.known,
        "error": happening.problem,
        "hint": happening.hint,
    }
    return Line(Level.WARNING, LogEvent.PROVIDERS_NOT_LISTED, fields, limited=True)


def _of(happening: TokenBlocked | BodyRepaired) -> dict[str, Any]:
    return {"account": happening.account, "endpoint": happening.endpoint}
