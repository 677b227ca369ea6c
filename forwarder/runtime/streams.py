"""The reading side: one source an account, one supervised poller a stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import SystemRandom
from typing import Any, TypeVar

from forwarder import __version__
from forwarder.config import AccountSettings
from forwarder.core.contracts import StreamKey
from forwarder.core.source_contract import SourceContext, StreamPlan
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.ingest.poller import Poller, StreamStatus
from forwarder.ingest.retrying import Gate
from forwarder.ingest.rounds import Surroundings
from forwarder.ingest.windows import PollOptions
from forwarder.journal import Journal
from forwarder.runtime.supervisor import Beat, Supervisor

T = TypeVar("T")

USER_AGENT = f"cloudflare-access-forwarder/{__version__}"
_SILENT_FOR = 900.0
_SHARED = "shared:{type}"


@dataclass(slots=True)
class _Account:
    settings: AccountSettings
    source: Any
    plans: Mapping[str, StreamPlan]
    pollers: dict[str, Poller] = field(default_factory=dict)


class Streams:
    """Starts, stops and shows the pollers."""

    def __init__(
        self,
        journal: Journal,
        gate: Gate,
        supervisor: Supervisor,
        clock: Clock,
        emit: Emit,
    ) -> None:
        """Read nothing yet."""
        self._journal = journal
        self._gate = gate
        self._supervisor = supervisor
        self._clock = clock
        self._emit = emit
        self._shared: dict[str, Any] = {}
        self._accounts: dict[str, _Account] = {}

    async def start(self, accounts: Iterable[AccountSettings], *, poll: bool = True) -> None:
        """Make the sources and start a poller for each stream; none without ``poll``."""
        for settings in accounts:
            await self._share(settings)
            context = SourceContext(
                clock=self._clock,
                shared=self._shared[settings.type],
                user_agent=USER_AGENT,
                emit=self._emit,
            )
            source = settings.plugin(settings.config, context)
            account = _Account(settings, source, source.streams())
            self._accounts[settings.account_id] = account
            for name in account.plans if poll else ():
                key = StreamKey(settings.account_id, name)
                self._supervisor.start(
                    _task(key), _Work(self, account, key), silent_for=self._silence(account, name)
                )

    async def stop(self, account_ids: Iterable[str] | None = None) -> None:
        """Stop the pollers of some accounts, or of all, and close their connections."""
        for account_id in list(self._accounts if account_ids is None else account_ids):
            account = self._accounts.pop(account_id, None)
            if account is None:
                continue
            tasks = [_task(StreamKey(account_id, name)) for name in account.plans]
            await self._supervisor.stop(*tasks)
            await account.source.aclose()

    def wake(self) -> None:
        """Let every poller try again what it waits for."""
        for account in self._accounts.values():
            for poller in account.pollers.values():
                poller.wake()

    async def remember(self) -> None:
        """Keep what the next process should know of the budgets; called every few seconds."""
        for kind, shared in self._shared.items():
            await self._journal.keep(_SHARED.format(type=kind), shared.snapshot())

    def states(self) -> Sequence[StreamStatus]:
        """Return how every stream is."""
        return [
            poller.state()
            for account in self._accounts.values()
            for poller in account.pollers.values()
        ]

    @property
    def labels(self) -> Mapping[str, str]:
        """Return the accounts' names for people by id."""
        return {key: account.settings.label for key, account in self._accounts.items()}

    @property
    def names(self) -> list[tuple[str, str]]:
        """Return label of the account and name of every stream that is read."""
        return [
            (account.settings.label, name)
            for account in self._accounts.values()
            for name in account.plans
        ]

    @property
    def count(self) -> int:
        """Return the number of streams that are read."""
        return sum(len(account.plans) for account in self._accounts.values())

    def matching(self, *, accounts: Sequence[str], streams: Sequence[str]) -> list[StreamKey]:
        """Return the streams of some accounts (ids or labels) with some names; all when empty."""
        return [
            StreamKey(account_id, name)
            for account_id, account in self._accounts.items()
            if not accounts or {account_id, account.settings.label} & set(accounts)
            for name in account.plans
            if not streams or name in streams
        ]

    def around(self, key: StreamKey, beat: Beat) -> Surroundings:
        """Return what another reader of a running stream works with (a backfill)."""
        return self.surroundings(self._accounts[key.account_id], key, beat)

    async def paused(self, account_id: str, change: Callable[[], Awaitable[T]]) -> T:
        """Stop an account's pollers, make a change to what they keep, and start them anew."""
        account = self._accounts.get(account_id)
        await self.stop([account_id])
        try:
            return await change()
        finally:
            if account is not None:
                await self.start([account.settings])

    async def _share(self, settings: AccountSettings) -> None:
        """Make what all accounts of one type share, out of what an earlier process kept."""
        if settings.type not in self._shared:
            kept = await self._journal.recall(_SHARED.format(type=settings.type))
            self._shared[settings.type] = settings.plugin.share(self._clock, kept)

    def _silence(self, account: _Account, name: str) -> float:
        return _SILENT_FOR + 2 * float(account.plans[name].settings.poll_interval)

    def surroundings(self, account: _Account, key: StreamKey, beat: Beat) -> Surroundings:
        """Return what the poller of one stream works with."""
        return Surroundings(
            key=key,
            account=account.settings.label,
            source=account.plans[key.stream].source,
            log=self._journal.stream_log(key),
            gate=self._gate,
            clock=self._clock,
            rng=SystemRandom(),
            emit=self._emit,
            beat=beat,
            retention=account.settings.config.retention,
        )


@dataclass(frozen=True, slots=True)
class _Work:
    """The task of one stream: a fresh poller at every start, which reads on from the journal."""

    streams: Streams
    account: _Account
    key: StreamKey

    async def __call__(self, beat: Beat) -> None:
        account, name = self.account, self.key.stream
        around = self.streams.surroundings(account, self.key, beat)
        poller = Poller(around, _options(account.plans[name].settings, around.retention))
        account.pollers[name] = poller
        await poller.run()


def _options(settings: Any, retention: float) -> PollOptions:
    return PollOptions(
        poll_interval=settings.poll_interval,
        start_from=settings.start_from,
        overlap=settings.overlap,
        reconcile=settings.reconcile,
        retention=retention,
    )


def _task(key: StreamKey) -> str:
    return f"stream:{key}"
