"""The contract of a journal that replicas share: each of its shards has one owner at a time.

A lease only says when another replica may take over. What keeps a former owner from writing is the
journal's own fence: its writes fail, and ``Journal.ended`` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from forwarder.core.journal import Journal, Keeping
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock


@dataclass(frozen=True, slots=True)
class ShardOwner:
    """Which process owns a shard of a shared journal; ``owner`` is empty if none does.

    ``epoch`` grows with each owner; ``since`` is when this one took the shard, in RFC 3339 by the
    clock of the database. The bytes are those of its rows, a few seconds ago: what a blocking sink
    still needs, and all.
    """

    shard: int
    epoch: int
    owner: str
    undelivered_bytes: int = 0
    stored_bytes: int = 0
    since: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A replica, as it presents itself to the others.

    ``since`` is when it started, in RFC 3339 by its own clock. An address is empty if the replica
    does not listen there. ``seen_seconds`` ago it last said that it lives.
    """

    name: str
    version: str = ""
    since: str = ""
    admin_url: str = ""
    push_url: str = ""
    seen_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class FleetState:
    """Who owns the shards, and which replicas live, by the judgement of the database.

    ``newest`` are the replicas with the newest settings, which alone take shards. ``sinks`` are
    those of all replicas within the last hour; ``lost`` are the replicas that were seen within it,
    live no more and did not take their leave. ``older`` are the replicas of an older release: the
    tables are theirs for as long as they live, and this one knows nothing else of the fleet.
    """

    shards: Sequence[ShardOwner] = ()
    replicas: Sequence[Member] = ()
    newest: Sequence[str] = ()
    sinks: frozenset[str] = frozenset()
    lost: Sequence[Member] = ()
    older: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """What a fleet is known by: its name, empty if it has none, and its accounts.

    Each account has what says which of them share a request budget, as in ``Fleet.place``.
    """

    name: str
    accounts: Mapping[str, str] = field(repr=False)


def is_foreign(found: Identity, own: Identity) -> bool:
    """Return True if settings are not those of the fleet that was found.

    If both have a name, only the names count. Otherwise one account in common is enough: settings
    may change while replicas run.
    """
    if found.name and own.name:
        return found.name != own.name
    return bool(found.accounts) and not found.accounts.keys() & own.accounts.keys()


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a replica tells the others: its settings' hash, generation if given, sinks; and itself.

    The name in ``about`` does not count: the fleet knows how the replica is called.
    """

    settings: str
    generation: int | None
    sinks: Sequence[str]
    about: Member


@dataclass(frozen=True, slots=True)
class Taken:
    """A shard that this process has just got; ``former`` is who had it and never gave it back."""

    shard: int
    epoch: int
    former: str


@dataclass(frozen=True, slots=True)
class Request:
    """What a command elsewhere asks the owner of a shard to do; its arguments are not checked."""

    id: str
    command: str
    given: Mapping[str, Any]


class Lease(Protocol):
    """The right to open one shard; at most one process has it at a time."""

    @property
    def shard(self) -> int:
        """Return the shard's number."""
        ...

    async def take(self) -> Taken | None:
        """Try to get it; None if another process has it. Renewed from then on.

        Raises ``TransientError`` while nobody can say who has it.
        """
        ...

    async def open(self, keeping: Keeping, *, clock: Clock, emit: Emit) -> Journal:
        """Open the journal after ``take``; raises as ``take``, ``StateError``, ``DamagedError``."""
        ...

    def report(self, undelivered_bytes: int, stored_bytes: int) -> None:
        """Let the owners of the other shards know, with the next renewal, what this one holds."""
        ...

    async def lost(self) -> str:
        """Wait until the right is gone, and return why; then nothing may be read or delivered."""
        ...

    async def next_request(self) -> Request | None:
        """Take the oldest request to the shard's owner, after ``open``; None if there is none.

        Nobody takes it again, whatever becomes of this process. Raises ``TransientError``.
        """
        ...

    async def answer(self, request: Request, status: int, content: Mapping[str, Any]) -> None:
        """Answer a request that was taken; ``status`` as in HTTP. Raises ``TransientError``."""
        ...

    async def release(self) -> None:
        """Let another process take it at once; idempotent."""
        ...


class Fleet(Protocol):
    """The replicas that share a journal, as one of them sees them."""

    def announce(self, settings: Announcement) -> None:
        """Let the others know, with the next look, what this replica is and has."""
        ...

    async def look(self) -> FleetState:
        """Say that this replica lives, and return what the others do; called every moment.

        Raises ``TransientError`` while the database is away, ``StateError`` if it has no journal.
        """
        ...

    @property
    def name(self) -> str:
        """Return how this replica is called in ``FleetState``."""
        ...

    def lease(self, shard: int) -> Lease:
        """Return the right to a shard, which nobody has taken yet."""
        ...

    async def place(self, credentials: Mapping[str, str]) -> Mapping[str, int]:
        """Return the shard of each account that has one, after those of ``credentials`` got theirs.

        ``credentials`` tell by account which of them share a request budget; they are not stored.
        Raises as ``look``.
        """
        ...

    async def ask(
        self, shard: int, command: str, given: Mapping[str, Any], *, patient: bool
    ) -> tuple[int, Any]:
        """Have the owner of a shard carry out a command; return its answer's status and content.

        The owner takes a request at most once. With ``patient`` a shard that nobody owns gets time
        to find an owner; otherwise that raises ``FreeShardError`` at once. Raises ``StateError`` if
        nobody took the request, or if its taker was lost, and ``TransientError``; the texts say if
        it may have taken effect.
        """
        ...


def placing(
    placed: Mapping[str, int], credentials: Mapping[str, str], shards: Iterable[int]
) -> dict[str, int]:
    """Choose shards for the accounts that have none, by account.

    An account goes where its credential is used already, so that one process counts the requests
    of a token; otherwise to the shard with the fewest accounts.
    """
    load = Counter(dict.fromkeys(shards, 0))
    load.update(placed.values())
    homes: dict[str, int] = {}
    waiting: dict[str, list[str]] = {}
    for account, credential in sorted(credentials.items()):
        if account in placed:
            homes.setdefault(credential, placed[account])
        else:
            waiting.setdefault(credential, []).append(account)
    chosen: dict[str, int] = {}
    for credential, accounts in sorted(waiting.items(), key=lambda one: (-len(one[1]), one[1])):
        shard = homes.get(credential)
        if shard is None:
            shard = min(load, key=lambda one: (load[one], one))
        load[shard] += len(accounts)
        chosen |= dict.fromkeys(accounts, shard)
    return chosen


def shares(fleet: FleetState, me: str) -> tuple[int, int]:
    """Return the least and the most shards that this replica should have."""
    replicas = len({*fleet.newest, me})
    return len(fleet.shards) // replicas, -(-len(fleet.shards) // replicas)


def wanted(fleet: FleetState, me: str, mine: int, *, overdue: bool) -> bool:
    """Return True if this replica should take one of the free shards; it has ``mine`` now.

    Those with the fewest shards come first; if one stays free (``overdue``), any other may. With
    settings that are older than those of another, a replica takes none: a sink could be missing.
    """
    if me not in fleet.newest:
        return False
    held = Counter(one.owner for one in fleet.shards)
    fewest = min((held[name] for name in fleet.newest if name != me), default=mine)
    return mine < shares(fleet, me)[1] and (mine <= fewest or overdue)


def spare(fleet: FleetState, me: str) -> bool:
    """Return True if this replica should give a shard back, so that another may take it.

    Of several that could help one which has too few, the same one is chosen everywhere.
    """
    least, most = shares(fleet, me)
    held = Counter(one.owner for one in fleet.shards)
    if held[""] or me not in fleet.newest:
        return False
    poor = any(held[name] < least for name in fleet.newest)
    richest = min(fleet.newest, key=lambda name: (-held[name], name))
    return held[me] > most or (poor and held[me] > least and richest == me)
