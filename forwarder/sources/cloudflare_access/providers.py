"""Which identity providers there are.

Which identity providers are polled, since when, and until when after they are gone; pure.

Asks Cloudflare which identity providers provision over SCIM, and keeps the roster current.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.telemetry import Emit, ignore
from forwarder.sources.cloudflare_access.account import ScimUpdatesConfig
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.events import ProvidersChanged, ProvidersNotListed
from forwarder.sources.cloudflare_access.faults import IDENTITY_PROVIDERS

FAREWELL_US = 24 * 3600 * 1_000_000
"""A vanished provider is polled for another day: its last rows, removals, matter most."""


@dataclass(frozen=True, slots=True)
class Provider:
    """An identity provider as listed; ``enabled`` says whether it provisions over SCIM.

    Nothing else of the listing is kept: its SCIM settings hold a secret.
    """

    id: str
    name: str = ""
    type: str = ""
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Member:
    """A provider whose updates are read; times in microseconds since 1970.

    ``since_us`` is when it was first seen. ``vanished_us`` is when it was first found missing or
    no longer provisioning, None while it is there.
    """

    id: str
    name: str
    type: str
    since_us: int
    vanished_us: int | None = None

    def is_polled(self, now_us: int) -> bool:
        """Say whether it is there, or gone for less than a day."""
        return self.vanished_us is None or now_us < self.vanished_us + FAREWELL_US


@dataclass(frozen=True, slots=True)
class Roster:
    """The providers of an account in the order of their ids; part of the stream's position.

    ``checked_us`` is when they were last asked for, whatever the answer; None is never.
    """

    members: tuple[Member, ...] = ()
    checked_us: int | None = None

    def polled(self, now_us: int) -> tuple[Member, ...]:
        """Return those whose updates are to be read."""
        return tuple(member for member in self.members if member.is_polled(now_us))

    def is_due(self, now_us: int, refresh: float) -> bool:
        """Say whether ``refresh`` seconds have gone since they were asked for.

        So it is, too, when the clock was set back.
        """
        return self.checked_us is None or not 0 <= now_us - self.checked_us < refresh * 1e6

    def checked(self, now_us: int) -> Roster:
        """Return the same with a note that they were asked for in vain."""
        return replace(self, checked_us=now_us)

    def listed(self, providers: Iterable[Provider], now_us: int) -> Roster:
        """Return the roster after a complete listing."""
        found = {one.id: one for one in providers if one.enabled}
        known = {member.id: member for member in self.polled(now_us)}
        present = {
            id_: Member(id_, one.name, one.type, known[id_].since_us if id_ in known else now_us)
            for id_, one in found.items()
        }
        gone = {
            id_: replace(one, vanished_us=now_us) if one.vanished_us is None else one
            for id_, one in known.items()
            if id_ not in found
        }
        return _roster({**present, **gone}.values(), now_us)

    def fixed(self, ids: Iterable[str], now_us: int) -> Roster:
        """Return the roster of exactly the providers that the settings name."""
        known = {member.id: member for member in self.polled(now_us)}
        members = (
            replace(known[id_], vanished_us=None) if id_ in known else Member(id_, "", "", now_us)
            for id_ in ids
        )
        return _roster(members, now_us)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value to persist."""
        return {"checked_us": self.checked_us, "members": [asdict(one) for one in self.members]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Roster:
        """Return what ``to_json`` gave; keys of a later version are passed over."""
        names = Member.__dataclass_fields__
        return cls(
            tuple(
                Member(**{name: one[name] for name in names if name in one})
                for one in value["members"]
            ),
            value["checked_us"],
        )


def _roster(members: Iterable[Member], now_us: int) -> Roster:
    return Roster(tuple(sorted(members, key=lambda member: member.id)), now_us)


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
    emit: Emit = ignore,
) -> Roster:
    """Return the roster to poll by now; asks Cloudflare only when that is due.

    ``now_us`` is the same clock as in earlier calls, ``account`` the label for reports. When the
    providers cannot be listed the known ones are polled further. Raises what ``Api.get`` raises
    only when none is known.
    """
    if config.identity_providers != "auto":
        return _told(roster, roster.fixed(config.identity_providers, now_us), account, emit)
    if not roster.is_due(now_us, config.refresh):
        return roster
    try:
        listed = roster.listed(await list_providers(api), now_us)
    except TransientError as error:
        return _known(roster, error, now_us, account, emit)
    return _told(roster, listed, account, emit)


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


def _known(roster: Roster, error: TransientError, now_us: int, account: str, emit: Emit) -> Roster:
    """Go on with what is known: denied, ask again when due; out of order, at the next poll."""
    denied = isinstance(error, NeedsOperatorError)
    if denied:
        error.hint = f"{error.hint}; {_HINT}" if error.hint else _HINT
    polled = roster.polled(now_us)
    if not polled:
        raise error
    emit(ProvidersNotListed(account, len(polled), str(error), error.hint))
    return roster.checked(now_us) if denied else roster


def _told(before: Roster, after: Roster, account: str, emit: Emit) -> Roster:
    old, new = _present(before), _present(after)
    if old != new:
        appeared, vanished = sorted(new - old), sorted(old - new)
        emit(ProvidersChanged(account, tuple(appeared), tuple(vanished)))
    return after


def _present(roster: Roster) -> set[str]:
    return {member.id for member in roster.members if member.vanished_us is None}
