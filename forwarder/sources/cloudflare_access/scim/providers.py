"""Which identity providers are read: those that Cloudflare lists, but for those that it refuses.

``ProviderList`` and ``RefusedIds`` are values that the stream's memory keeps, ``ScimPosition`` is
where a window stands. Only ``current_list`` and ``list_providers`` send requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from forwarder.core.contracts import Window
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.telemetry import Emit, ignore
from forwarder.sources.cloudflare_access.account import ScimUpdatesConfig
from forwarder.sources.cloudflare_access.answers import IDENTITY_PROVIDERS
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.events import ProvidersChanged, ProvidersNotListed
from forwarder.sources.cloudflare_access.walk import Step, first_step

FAREWELL_US = 24 * 3600 * 1_000_000
"""A vanished provider is read for another day: its last rows, removals, matter most."""


@dataclass(frozen=True, slots=True)
class Provider:
    """An identity provider as listed; ``enabled`` is True if it provisions over SCIM.

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
        """Return True if it is there, or gone for less than a day."""
        return self.vanished_us is None or now_us < self.vanished_us + FAREWELL_US


@dataclass(frozen=True, slots=True)
class ProviderList:
    """The providers of an account in the order of their ids; part of the stream's memory.

    ``checked_us`` is when they were last listed, or could not be; None is never.
    """

    members: tuple[Member, ...] = ()
    checked_us: int | None = None

    def polled(self, now_us: int) -> tuple[Member, ...]:
        """Return those whose updates are to be read."""
        return tuple(member for member in self.members if member.is_polled(now_us))

    def is_due(self, now_us: int, refresh: float) -> bool:
        """Return True if they were listed ``refresh`` seconds ago, or later than now.

        The latter means that the clock was set back.
        """
        return self.checked_us is None or not 0 <= now_us - self.checked_us < refresh * 1e6

    def checked(self, now_us: int) -> ProviderList:
        """Return the same providers; a listing was tried and refused."""
        return replace(self, checked_us=now_us)

    def unchecked(self) -> ProviderList:
        """Return the same providers, to be listed at once."""
        return replace(self, checked_us=None)

    def listed(self, providers: Iterable[Provider], now_us: int) -> ProviderList:
        """Return the list after a complete listing."""
        # Cloudflare still lists a provider that has stopped provisioning; here it counts as gone.
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
        return _provider_list({**present, **gone}.values(), now_us)

    def fixed(self, ids: Iterable[str], now_us: int) -> ProviderList:
        """Return exactly the providers that the settings name."""
        known = {member.id: member for member in self.polled(now_us)}
        members = (
            replace(known[id_], vanished_us=None) if id_ in known else Member(id_, "", "", now_us)
            for id_ in ids
        )
        return _provider_list(members, now_us)

    def to_json(self) -> dict[str, Any]:
        """Return what the memory keeps."""
        return {"checked_us": self.checked_us, "members": [asdict(one) for one in self.members]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ProviderList:
        """Return what ``to_json`` gave; ignores keys of a later version."""
        names = Member.__dataclass_fields__
        return cls(
            tuple(
                Member(**{name: one[name] for name in names if name in one})
                for one in value["members"]
            ),
            value["checked_us"],
        )


def _provider_list(members: Iterable[Member], now_us: int) -> ProviderList:
    return ProviderList(tuple(sorted(members, key=lambda member: member.id)), now_us)


_PAGE_SIZE = 100
_MOST_PAGES = 100
_HINT = "or name the ids of the identity providers in `identity_providers`"


async def current_list(
    api: Api,
    config: ScimUpdatesConfig,
    known: ProviderList,
    now_us: int,
    *,
    account: str,
    emit: Emit = ignore,
) -> ProviderList:
    """Return the providers to read by now; requests them from Cloudflare only when that is due.

    ``now_us`` is the same clock as in earlier calls, ``account`` the label for events. When the
    providers cannot be listed the known ones are read further; only when none is known it raises
    as ``Api.get``.
    """
    if config.identity_providers != "auto":
        return _emitted(known, known.fixed(config.identity_providers, now_us), account, emit)
    if not known.is_due(now_us, config.refresh):
        return known
    try:
        listed = known.listed(await list_providers(api), now_us)
    except TransientError as error:
        return _unlisted(known, error, now_us, account, emit)
    return _emitted(known, listed, account, emit)


async def list_providers(api: Api) -> list[Provider]:
    """Return all identity providers of the account, page by page to an empty one."""
    found: dict[str, Provider] = {}
    for page in range(1, _MOST_PAGES + 1):
        answer = await api.get(
            IDENTITY_PROVIDERS, (("page", str(page)), ("per_page", str(_PAGE_SIZE)))
        )
        fresh = {one.id: one for one in _providers(answer.rows) if one.id not in found}
        # A page that repeats only what is known ends the list too: the page number was ignored.
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


def _unlisted(
    known: ProviderList, error: TransientError, now_us: int, account: str, emit: Emit
) -> ProviderList:
    """Go on with what is known: denied, list again when due; unavailable, at the next poll."""
    denied, hint = isinstance(error, NeedsOperatorError), error.hint
    if denied:
        hint = f"{hint}; {_HINT}" if hint else _HINT
    polled = known.polled(now_us)
    if not polled:
        raise NeedsOperatorError(str(error), hint=hint) if denied else error
    emit(ProvidersNotListed(account, len(polled), str(error), hint))
    # A missing permission does not heal between two polls, while an outage may.
    return known.checked(now_us) if denied else known


def _emitted(before: ProviderList, after: ProviderList, account: str, emit: Emit) -> ProviderList:
    old, new = _present(before), _present(after)
    if old != new:
        emit(ProvidersChanged(account, tuple(sorted(new - old)), tuple(sorted(old - new))))
    return after


def _present(known: ProviderList) -> set[str]:
    return {member.id for member in known.members if member.vanished_us is None}


_IDS_A_REQUEST = 20
"""At most so many providers in one request: 20 ids of 36 characters keep the URL short."""

Chunks = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class ScimPosition:
    """Where a window stands: chunks of ids still to be read, and the walk through the first.

    Each chunk is walked through the whole window before the next one.
    """

    chunks: Chunks
    step: Step

    @property
    def reached_us(self) -> int | None:
        """Return how far all ids have been read; None before the last chunk."""
        return self.step.since_us if len(self.chunks) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Return what a position keeps."""
        return {"chunks": self.chunks, "step": self.step.to_json()}

    @classmethod
    def from_json(cls, kept: Any, window: Window) -> ScimPosition | None:
        """Return what a position kept; None if it cannot be read."""
        try:
            chunks = tuple(tuple(str(id_) for id_ in chunk) for chunk in kept["chunks"])
            return cls(chunks, Step.from_json(kept["step"]) or first_step(window))
        except (TypeError, KeyError):
            return None


def chunked(ids: Sequence[str]) -> Chunks:
    """Return the ids in groups that fit into one request each."""
    size = _IDS_A_REQUEST
    return tuple(tuple(ids[start : start + size]) for start in range(0, len(ids), size))


def moved(position: ScimPosition, window: Window, step: Step | None) -> ScimPosition | None:
    """Return the position after an answer: in this chunk, in the next, or None at the end."""
    if step is not None:
        return ScimPosition(position.chunks, step)
    rest = position.chunks[1:]
    return ScimPosition(rest, first_step(window)) if rest else None


def halved(position: ScimPosition, window: Window) -> tuple[ScimPosition, tuple[str, ...]]:
    """Return the position after a refusal, and the ids that are skipped (one at most)."""
    chunk, rest = position.chunks[0], position.chunks[1:]
    # Halving finds one refused id among twenty in five requests.
    if len(chunk) <= 1:
        return ScimPosition(rest, first_step(window)), chunk
    middle = len(chunk) // 2
    return ScimPosition((chunk[:middle], chunk[middle:], *rest), first_step(window)), ()


_BELIEVED = 2
"""Refusals in a row; a single one may be a slip, and the next poll overlaps what it hid."""


class Refusal(NamedTuple):
    """How often in a row an id was refused, and when last (microseconds since 1970)."""

    times: int
    at_us: int


@dataclass(frozen=True, slots=True)
class RefusedIds:
    """The ids that were refused and not accepted since, so that not every poll has to find them.

    Part of the stream's memory.
    """

    of: Mapping[str, Refusal] = field(default_factory=dict)

    def refused(self, ids: Iterable[str], now_us: int) -> RefusedIds:
        """Return the refused ids with these, refused at ``now_us``."""
        times = {id_: self.of[id_].times if id_ in self.of else 0 for id_ in ids}
        return RefusedIds({**self.of, **{id_: Refusal(n + 1, now_us) for id_, n in times.items()}})

    def accepted(self, ids: Iterable[str]) -> RefusedIds:
        """Return the refused ids without these."""
        if self.of.keys().isdisjoint(ids):
            return self
        accepted = frozenset(ids)
        return RefusedIds({id_: one for id_, one in self.of.items() if id_ not in accepted})

    def among(self, ids: Iterable[str]) -> RefusedIds:
        """Return those of these ids that are refused."""
        wanted = frozenset(ids)
        return RefusedIds({id_: one for id_, one in self.of.items() if id_ in wanted})

    def cover(self, ids: Iterable[str]) -> bool:
        """Return True if each of these ids is refused."""
        return self.of.keys() >= frozenset(ids)

    def plan(self, ids: Sequence[str], now_us: int, refresh: float) -> tuple[Chunks, list[str]]:
        """Return how to query ``ids``, and which of them are skipped.

        A refused id has a request of its own, the least recently refused first. After a second
        refusal it is skipped for ``refresh`` seconds, unless the clock was set back.
        """
        skipped = [id_ for id_ in ids if self._is_believed(id_, now_us, refresh)]
        alone = sorted(
            (id_ for id_ in ids if id_ in self.of and id_ not in skipped),
            key=lambda id_: self.of[id_].at_us,
        )
        # Refused ids come last and alone: they must not take others down with them again.
        others = chunked([id_ for id_ in ids if id_ not in self.of])
        return (*others, *((id_,) for id_ in alone)), skipped

    def _is_believed(self, id_: str, now_us: int, refresh: float) -> bool:
        one = self.of.get(id_)
        return (
            one is not None and one.times >= _BELIEVED and 0 <= now_us - one.at_us < refresh * 1e6
        )

    def to_json(self) -> dict[str, Any]:
        """Return what the memory keeps."""
        return {id_: list(one) for id_, one in self.of.items()}

    @classmethod
    def from_json(cls, kept: Any) -> RefusedIds:
        """Return what was kept; no ids if it cannot be read."""
        try:
            return cls({str(id_): Refusal(*map(int, one)) for id_, one in kept.items()})
        except (AttributeError, TypeError, ValueError):
            return cls()
