"""What the dashboards show: one table of panels.

A panel counts events, or the values of a field, by time or by the most frequent values of a field.
Queries are written in what KQL and Lucene share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["metric", "histogram", "pie", "table"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. ``by`` are the fields whose values it is split by, ``distinct`` is counted.

    ``latest`` shows the newest time instead of a number.
    """

    title: str
    kind: Kind
    query: str
    by: tuple[str, ...] = ()
    distinct: str = ""
    latest: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard; ``id`` is in the id of each of its objects."""

    id: str
    title: str
    text: str
    panels: tuple[Panel, ...]


_LOGIN = 'event.dataset:"cloudflare_access.audit" AND event.action:"login"'
_ACCEPTED = f'{_LOGIN} AND event.outcome:"success"'
_REFUSED = f'{_LOGIN} AND event.outcome:"failure"'
_SCIM = 'event.dataset:"cloudflare_access.scim"'
_OWN = 'event.dataset:"cloudflare_access.forwarder"'
_COUNTRY = "source.geo.country_iso_code"

DASHBOARDS = (
    Dashboard(
        "logins",
        "Logins",
        "Who comes in, to what, and how",
        (
            Panel("Accepted logins", "metric", _ACCEPTED),
            Panel("Refused logins", "metric", _REFUSED),
            Panel("Users", "metric", _ACCEPTED, distinct="user.name"),
            Panel("Logins over time", "histogram", _LOGIN, ("event.outcome",)),
            Panel("Applications", "table", _ACCEPTED, ("service.name",), "user.name"),
            Panel("Identity providers", "pie", _ACCEPTED, ("cloudflare.access.connection",)),
            Panel("People and services", "pie", _ACCEPTED, ("cloudflare.access.user_type",)),
            Panel("Users by logins", "table", _ACCEPTED, ("user.name",), "http.request.id"),
        ),
    ),
    Dashboard(
        "refusals",
        "Refusals",
        "Who is refused, from where, and at what",
        (
            Panel("Users refused", "metric", _REFUSED, distinct="user.name"),
            Panel("Addresses refused", "metric", _REFUSED, distinct="source.ip"),
            Panel("Through Tor", "metric", f'{_LOGIN} AND tags:"tor"'),
            Panel("Refusals over time", "histogram", _REFUSED, ("url.domain",)),
            Panel("Refused users", "table", _REFUSED, ("user.name",), "http.request.id"),
            Panel("Refused addresses", "table", _REFUSED, ("source.ip",), "user.name"),
            Panel("Applications that refuse", "pie", _REFUSED, ("service.name",)),
        ),
    ),
    Dashboard(
        "geography",
        "Geography",
        "From which countries people come",
        (
            Panel("Countries", "metric", _ACCEPTED, distinct=_COUNTRY),
            Panel("Accepted by country", "histogram", _ACCEPTED, (_COUNTRY,)),
            Panel("Refused by country", "histogram", _REFUSED, (_COUNTRY,)),
            Panel("Users by country", "table", _ACCEPTED, (_COUNTRY,), "user.name"),
            Panel("Countries by user", "table", _ACCEPTED, ("user.name",), _COUNTRY),
        ),
    ),
    Dashboard(
        "provisioning",
        "Provisioning",
        "Which users and groups the identity providers change",
        (
            Panel("Changes", "metric", _SCIM),
            Panel("Failed changes", "metric", f'{_SCIM} AND event.outcome:"failure"'),
            Panel(
                "Disabled or deleted",
                "metric",
                f'{_SCIM} AND event.action:("scim-user-disable" OR "scim-user-delete")',
                distinct="user.target.id",
            ),
            Panel("Changes over time", "histogram", _SCIM, ("event.action",)),
            Panel("Users changed", "table", _SCIM, ("user.target.name", "event.action")),
            Panel("Groups changed", "table", _SCIM, ("group.name", "event.action")),
            Panel(
                "Why changes failed",
                "table",
                f'{_SCIM} AND event.outcome:"failure"',
                ("event.reason",),
            ),
            Panel("Identity providers", "pie", _SCIM, ("cloudflare.scim.idp_id",)),
        ),
    ),
    Dashboard(
        "forwarder",
        "Forwarder",
        "Whether the logs are complete",
        (
            Panel("Gaps", "metric", f'{_OWN} AND event.action:"gap_opened"'),
            Panel("Late rows", "metric", f'{_OWN} AND event.action:"late_rows"'),
            Panel("Last report", "metric", f'{_OWN} AND event.action:"coverage"', latest=True),
            Panel("Events of the forwarder", "histogram", _OWN, ("event.action",)),
            Panel(
                "Last report of each stream",
                "table",
                f'{_OWN} AND event.action:"coverage"',
                ("cloud.account.name", "cloudflare.forwarder.stream"),
                latest=True,
            ),
            Panel(
                "Why events are missing",
                "table",
                f'{_OWN} AND event.action:"gap_opened"',
                ("event.reason",),
            ),
            Panel("Arrived, by log", "histogram", "event.ingested:*", ("event.dataset",)),
        ),
    ),
)
