"""Asks Cloudflare which identity providers provision over SCIM, and keeps the roster current."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.happenings import Report, ignore
from forwarder.sources.cloudflare_access.account import ScimUpdatesConfig
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.faults import IDENTITY_PROVIDERS
from forwarder.sources.cloudflare_access.happenings import ProvidersChanged, ProvidersNotListed
from forwarder.sources.cloudflare_access.roster import Provider, Roster

_PAGE_SIZE = 100
_MOST_PAGES = 100
_HINT = "or name the ids of the identity providers in `identity_providers`"


async def current_roster(
    api: Api,
    config: ScimUpdatesConfig,
    roster: Roster,
    now_us: int,
    *,
    account: str,
    report: Report = ignore,
) -> Roster:
    """Return the roster to poll by now; asks Cloudflare only when that is due.

    ``now_us`` is the same clock as in earlier calls, ``account`` the label for reports. When the
    providers cannot be listed the known ones are polled further. Raises what ``Api.get`` raises
    only when none is known.
    """
    if config.identity_providers != "auto":
        return _told(roster, roster.fixed(config.identity_providers, now_us), account, report)
    if not roster.is_due(now_us, config.refresh):
        return roster
    try:
        listed = roster.listed(await list_providers(api), now_us)
    except TransientError as error:
        return _known(roster, error, now_us, account, report)
    return _told(roster, listed, account, report)


async def list_providers(api: Api) -> list[Provider]:
    """Return all identity providers of the account, page by page to an empty one.

    A page that repeats only what is known ends it too: then the page number was ignored.
    """
    found: dict[str, Provider] = {}
    for page in range(1, _MOST_PAGES + 1):
        answer = await api.get(
            IDENTITY_PROVIDERS, (("page", str(page)), ("per_page", str(_PAGE_SIZE)))
        )
        fresh = {one.id: one for one in _providers(answer.rows) if one.id not in found}
        if not fresh:
            break
        found.update(fresh)
    return list(found.values())


def _providers(rows: Iterable[Mapping[str, Any]]) -> Iterator[Provider]:
    """Give what is needed of each row and nothing else of it."""
    for row in rows:
        id_, scim = row.get("id"), row.get("scim_config")
        if isinstance(id_, str) and id_:
            yield Provider(
                id_,
                str(row.get("name") or ""),
                str(row.get("type") or ""),
                isinstance(scim, dict) and scim.get("enabled") is True,
            )


def _known(
    roster: Roster, error: TransientError, now_us: int, account: str, report: Report
) -> Roster:
    """Go on with what is known: denied, ask again when due; out of order, at the next poll."""
    denied = isinstance(error, NeedsOperatorError)
    if denied:
        error.hint = f"{error.hint}; {_HINT}" if error.hint else _HINT
    polled = roster.polled(now_us)
    if not polled:
        raise error
    report(ProvidersNotListed(account, len(polled), str(error), error.hint))
    return roster.checked(now_us) if denied else roster


def _told(before: Roster, after: Roster, account: str, report: Report) -> Roster:
    old, new = _present(before), _present(after)
    if old != new:
        appeared, vanished = sorted(new - old), sorted(old - new)
        report(ProvidersChanged(account, tuple(appeared), tuple(vanished)))
    return after


def _present(roster: Roster) -> set[str]:
    return {member.id for member in roster.members if member.vanished_us is None}
