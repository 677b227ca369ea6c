"""Settings become supervised tasks: a poller for each stream, a consumer for each sink."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import SystemRandom
from typing import Any, TypeVar

from forwarder import __version__
from forwarder.config import AccountSettings, ForwarderSettings, SinkSettings
from forwarder.core.contracts import Render, SinkContext, StreamKey
from forwarder.core.errors import ConfigError, Fault
from forwarder.core.source_contract import SourceContext, StreamPlan
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Backoff, Clock, SystemClock
from forwarder.delivery.consumer import Consumer
from forwarder.delivery.options import DeliveryOptions
from forwarder.delivery.queue import SinkQueue
from forwarder.delivery.state import SinkState
from forwarder.ingest.poller import Poller, StreamStatus
from forwarder.ingest.retrying import Gate, StreamContext
from forwarder.ingest.windows import PollOptions
from forwarder.journal import Journal
from forwarder.runtime.rendering import Rendering
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

    def around(self, key: StreamKey, beat: Beat) -> StreamContext:
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

    def surroundings(self, account: _Account, key: StreamKey, beat: Beat) -> StreamContext:
        """Return what the poller of one stream works with."""
        return StreamContext(
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


@dataclass(slots=True)
class _Member:
    settings: SinkSettings
    queue: SinkQueue
    consumer: Consumer | None = None


class Sinks:
    """Starts, stops and shows the consumers."""

    def __init__(
        self,
        journal: Journal,
        rendering: Rendering,
        supervisor: Supervisor,
        clock: Clock,
        emit: Emit,
    ) -> None:
        """Deliver nothing yet."""
        self._journal = journal
        self._supervisor = supervisor
        self._clock = clock
        self._emit = emit
        self._members: dict[str, _Member] = {}
        self._rendering = rendering

    async def join(self, sinks: Iterable[SinkSettings]) -> None:
        """Give each sink its place in the journal; before any row is stored that it should get."""
        for settings in sinks:
            options = settings.options
            queue = await self._journal.sink_queue(
                settings.name,
                start_at=options.start_at,
                blocking=options.when_full == "block",
            )
            self._members[settings.name] = _Member(settings, queue)

    def start(self, names: Iterable[str]) -> None:
        """Start delivering to sinks that have joined."""
        for name in names:
            self._supervisor.start(f"sink:{name}", partial(self._deliver, self._members[name]))

    async def finish(self, names: Iterable[str], patience: float) -> None:
        """Let some sinks deliver what is stored, for at most ``patience`` seconds."""
        consumers = [self._members[name].consumer for name in names if name in self._members]
        deadline = self._clock.monotonic() + patience
        await asyncio.gather(
            *(consumer.finish(deadline) for consumer in consumers if consumer is not None)
        )

    async def drain(self, names: Iterable[str] | None, grace: float) -> None:
        """Let writes under way end for at most ``grace`` seconds, acknowledge, close."""
        chosen = list(self._members if names is None else names)
        consumers = [self._members[name].consumer for name in chosen if name in self._members]
        deadline = self._clock.monotonic() + grace
        await asyncio.gather(
            *(consumer.drain(deadline) for consumer in consumers if consumer is not None)
        )
        await self._supervisor.stop(*(f"sink:{name}" for name in chosen))

    def leave(self, names: Iterable[str]) -> None:
        """Forget sinks that the settings no longer name; their places are kept."""
        for name in names:
            self._members.pop(name, None)
            self._journal.leave(name)

    def wake(self) -> None:
        """Let every sink try again what it waits for."""
        for member in self._members.values():
            if member.consumer is not None:
                member.consumer.wake()

    def states(self) -> Sequence[SinkState]:
        """Return how every sink is that has started."""
        members = self._members.values()
        return [member.consumer.state() for member in members if member.consumer is not None]

    @property
    def settings(self) -> Mapping[str, SinkSettings]:
        """Return the settings of the running sinks by name."""
        return {name: member.settings for name, member in self._members.items()}

    @property
    def queues(self) -> Mapping[str, SinkQueue]:
        """Return the running sinks' queues by name."""
        return {name: member.queue for name, member in self._members.items()}

    async def _deliver(self, member: _Member, beat: Beat) -> None:
        """Be the task of one sink: a fresh consumer at every start, from what was acknowledged."""
        render = self._rendering.render_for(member.settings)
        try:
            member.consumer = self._consumer(member, render)
            await member.consumer.run(beat)
        finally:
            self._rendering.release(render)

    def _consumer(self, member: _Member, render: Render) -> Consumer:
        sink = member.settings
        writer = sink.format_plugin(sink.format_config)
        context = SinkContext(
            name=sink.name,
            format=sink.format,
            media_type=writer.media_type,
            clock=self._clock,
            user_agent=USER_AGENT,
            emit=self._emit,
        )
        return Consumer(
            name=sink.name,
            sink=sink.plugin(sink.config, context),
            queue=member.queue,
            render=render,
            options=delivery_options(sink),
            clock=self._clock,
            rng=SystemRandom(),
            emit=self._emit,
        )


def delivery_options(sink: SinkSettings) -> DeliveryOptions:
    """Return what the settings say about a sink's delivery."""
    options = sink.options
    return DeliveryOptions(
        max_events=options.batch.max_events,
        max_bytes=options.batch.max_bytes,
        max_wait=options.batch.max_wait,
        max_in_flight=options.max_in_flight,
        timeout=options.timeout,
        backoff=Backoff(initial=options.retry.initial, max=options.retry.max),
        paused=options.paused,
    )


def preflight(settings: ForwarderSettings) -> None:
    """Make every sink and format once and throw it away; raises ``ConfigError`` with all faults."""
    faults: list[Fault] = []
    rendering = Rendering(settings)
    for sink in settings.sinks:
        try:
            writer = sink.format_plugin(sink.format_config)
            rendering.render_for(sink)
            context = SinkContext(sink.name, sink.format, writer.media_type, SystemClock())
            sink.plugin(sink.config, context)
        except ConfigError as error:
            faults += [
                Fault(f"sinks.{sink.name}", fault.problem, fault.hint) for fault in error.faults
            ]
    if faults:
        raise ConfigError(faults)
