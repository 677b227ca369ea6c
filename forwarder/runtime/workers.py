"""Settings become supervised tasks: a poller for each stream, a consumer for each sink.

The only place where the plugins of sources and sinks are made out of their settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from socket import gethostname
from typing import Any, TypeVar

from forwarder.config import AccountSettings, ForwarderSettings, SinkSettings
from forwarder.core.contracts import Render, Sink, SinkContext, StreamKey
from forwarder.core.errors import ConfigError, Fault, TransientError
from forwarder.core.journal import Journal
from forwarder.core.log import SinkQueue
from forwarder.core.source_contract import Expiring, SourceContext, SourcePlugin
from forwarder.core.telemetry import Emit, TelemetryEvent, ignore
from forwarder.core.timing import Backoff, Clock, SystemClock
from forwarder.delivery.consumer import Consumer
from forwarder.delivery.events import SinkDrained
from forwarder.delivery.pacing import DeliveryOptions
from forwarder.delivery.state import SinkState
from forwarder.ingest.poller import Poller, StreamStatus
from forwarder.ingest.rounds import Gate, StreamContext
from forwarder.ingest.windows import PollOptions
from forwarder.observe.events import CredentialSeen
from forwarder.runtime.replica import USER_AGENT, Rendering, Replica
from forwarder.runtime.supervisor import Beat, Supervisor

T = TypeVar("T")

# A page, its retries and a wait for the request budget may take minutes without a beat.
_LOOK = 0.05
_SILENT_FOR = 900.0
_SHARED = "shared:{type}"
_CREDENTIAL = "token:{account}"
# Not at once: a start has more urgent requests, and is often followed by another.
_ASKED_FIRST, _ASKED_EVERY = 60.0, 3600.0


def source_of(
    account: AccountSettings, shared: Any, clock: Clock, emit: Emit = ignore
) -> SourcePlugin:
    """Make the source of an account; ``shared`` is what its plugin's ``share`` returned."""
    context = SourceContext(clock=clock, shared=shared, user_agent=USER_AGENT, emit=emit)
    source: SourcePlugin = account.plugin(account.config, context)
    return source


def source_without_daemon(account: AccountSettings) -> SourcePlugin:
    """Make a source with a request budget of its own, for a command: no daemon's is at hand."""
    clock = SystemClock()
    return source_of(account, account.plugin.share(clock, None), clock)


def sink_of(
    sink: SinkSettings,
    clock: Clock,
    emit: Emit = ignore,
    *,
    replica: str = "",
    shard: int | None = None,
) -> Sink:
    """Make a sink; nothing is opened. Raises ``ConfigError`` if its settings cannot be used.

    ``replica`` and ``shard`` as in ``SinkContext``.
    """
    context = SinkContext(
        name=sink.name,
        format=sink.format,
        media_type=sink.format_plugin(sink.format_config).media_type,
        clock=clock,
        user_agent=USER_AGENT,
        emit=emit,
        format_settings=sink.format_config,
        replica=replica,
        shard=shard,
    )
    made: Sink = sink.plugin(sink.config, context)
    return made


def preflight(settings: ForwarderSettings) -> None:
    """Make every sink and its rendering once, for the faults that only plugins can find.

    Raises ``ConfigError`` with all of them. Called before anything starts and at a reload.
    """
    faults: list[Fault] = []
    rendering = Rendering(settings)
    replica = "" if settings.root.journal.type == "sqlite" else gethostname()
    for sink in settings.sinks:
        try:
            # Formats and filters check their options when the pipeline is made.
            rendering.render_for(sink)
            sink_of(sink, SystemClock(), replica=replica)
        except ConfigError as error:
            faults += [
                Fault(f"sinks.{sink.name}", fault.problem, fault.hint) for fault in error.faults
            ]
    if faults:
        raise ConfigError(faults)


class Streams:
    """Starts, stops and shows the pollers of one journal."""

    def __init__(
        self, replica: Replica, journal: Journal, gate: Gate, supervisor: Supervisor
    ) -> None:
        """Read nothing yet."""
        self._replica = replica
        self._journal = journal
        self._gate = gate
        self._supervisor = supervisor
        self._shared: dict[str, Any] = {}
        self._accounts: dict[str, _Account] = {}

    async def start(self, accounts: Iterable[AccountSettings], *, poll: bool = True) -> None:
        """Make the sources and start a poller for each stream; without ``poll`` no poller."""
        for settings in accounts:
            shared = await self._share(settings)
            source = source_of(settings, shared, self._replica.clock, self._replica.emit)
            account = self._accounts[settings.account_id] = _Account(settings, source)
            for name in account.plans if poll else ():
                key = StreamKey(settings.account_id, name)
                self._supervisor.start(
                    _task(key), partial(self._poll, key), silent_for=account.may_be_silent(name)
                )
            if poll and isinstance(source, Expiring):
                clock, emit = self._replica.clock, self._replica.emit
                watching = partial(watch_credential, source, settings.label, clock, emit)
                name = _CREDENTIAL.format(account=settings.account_id)
                self._supervisor.start(name, watching, silent_for=2 * _ASKED_EVERY)

    async def stop(self, account_ids: Iterable[str] | None = None) -> None:
        """Stop the pollers of some accounts, or of all, and close their connections."""
        for account_id in list(self._accounts if account_ids is None else account_ids):
            account = self._accounts.pop(account_id, None)
            if account is not None:
                await self._supervisor.stop(
                    *(_task(StreamKey(account_id, n)) for n in account.plans),
                    _CREDENTIAL.format(account=account_id),
                )
                # After its pollers: a request in flight would fail on a closed connection.
                await account.source.aclose()

    async def paused(self, account_id: str, change: Callable[[], Awaitable[T]]) -> T:
        """Stop an account's pollers, make a change to what they keep, and start them again.

        If the account is not read, the change is all that happens.
        """
        account = self._accounts.get(account_id)
        await self.stop([account_id])
        try:
            return await change()
        finally:
            if account is not None:
                await self.start([account.settings])

    def wake(self) -> None:
        """Let every poller retry now whatever it waits for."""
        for poller in self._pollers():
            poller.wake()

    async def remember(self) -> None:
        """Store what the next process should know of the budgets; called every few seconds."""
        for kind, shared in self._shared.items():
            await self._journal.keep("runtime", _SHARED.format(type=kind), shared.snapshot())

    def states(self) -> Sequence[StreamStatus]:
        """Return the state of every stream that has started."""
        return [poller.state() for poller in self._pollers()]

    @property
    def accounts(self) -> set[str]:
        """The ids of the accounts that are read."""
        return set(self._accounts)

    @property
    def names(self) -> list[tuple[str, str]]:
        """The account's label and the name of every stream that is read."""
        return [
            (account.settings.label, name)
            for account in self._accounts.values()
            for name in account.plans
        ]

    def matching(self, *, accounts: Sequence[str], streams: Sequence[str]) -> list[StreamKey]:
        """Return the streams of some accounts (ids or labels) with some names; all when empty."""
        return [
            StreamKey(account_id, name)
            for account_id, account in self._accounts.items()
            if not accounts or {account_id, account.settings.label} & set(accounts)
            for name in account.plans
            if not streams or name in streams
        ]

    def context(self, key: StreamKey, beat: Beat) -> StreamContext:
        """Return what a reader of a stream works with: its poller, or a backfill."""
        account = self._accounts[key.account_id]
        plan = account.plans[key.stream]
        return StreamContext(
            key=key,
            account=account.settings.label,
            source=plan.source,
            log=self._journal.stream_log(key),
            gate=self._gate,
            clock=self._replica.clock,
            rng=self._replica.random,
            emit=self._replica.emit,
            beat=beat,
            retention=plan.retention or account.settings.config.retention,
        )

    async def _poll(self, key: StreamKey, beat: Beat) -> None:
        """Be the task of one stream."""
        await self._accounts[key.account_id].poll(key.stream, self.context(key, beat))

    def _pollers(self) -> list[Poller]:
        return [one for account in self._accounts.values() for one in account.pollers]

    async def _share(self, settings: AccountSettings) -> Any:
        """Return what all accounts of one type share, made once out of what the journal keeps."""
        if settings.type not in self._shared:
            # Without it a restart would spend a whole new budget in the window of the old one.
            kept = await self._journal.recall("runtime", _SHARED.format(type=settings.type))
            self._shared[settings.type] = settings.plugin.share(self._replica.clock, kept)
        return self._shared[settings.type]


async def watch_credential(
    source: Expiring, account: str, clock: Clock, emit: Emit, beat: Beat
) -> None:
    """Be the task that learns when the credential of an account ends."""
    try:
        await clock.sleep(_ASKED_FIRST)
        while True:
            # A refusal is the pollers' to report: they meet it sooner.
            with suppress(TransientError):
                emit(CredentialSeen(account, await source.credential_expires_s()))
            beat()
            await clock.sleep(_ASKED_EVERY)
    finally:
        # Another replica may read the account now, with another token.
        emit(CredentialSeen(account, None))


class _Account:
    """One account that is read: its source, and a poller for each stream that has started."""

    def __init__(self, settings: AccountSettings, source: SourcePlugin) -> None:
        self.settings = settings
        self.source = source
        self.plans = source.streams()
        self._pollers: dict[str, Poller] = {}

    @property
    def pollers(self) -> Collection[Poller]:
        return self._pollers.values()

    async def poll(self, name: str, context: StreamContext) -> None:
        """Read one stream for ever, with a new poller, from the position in the journal."""
        plan = self.plans[name]
        options = PollOptions(
            poll_interval=plan.settings.poll_interval,
            start_from=plan.settings.start_from,
            overlap=plan.settings.overlap,
            reconcile=plan.settings.reconcile,
            retention=context.retention,
            hold_back=plan.hold_back,
        )
        # A new one after every crash: what a crashed poller holds in memory is in doubt.
        poller = self._pollers[name] = Poller(context, options)
        await poller.run()

    def may_be_silent(self, name: str) -> float:
        """Return the seconds that the poller of a stream may be silent: it sleeps between polls."""
        return _SILENT_FOR + 2 * float(self.plans[name].settings.poll_interval)


class Sinks:
    """Starts, stops and shows the consumers of one journal."""

    def __init__(
        self, replica: Replica, journal: Journal, supervisor: Supervisor, shard: int = 0
    ) -> None:
        """Deliver nothing yet; ``shard`` is the one of ``journal``."""
        self._replica = replica
        self._shard = shard
        self._journal = journal
        self._supervisor = supervisor
        self._members: dict[str, _Member] = {}
        self._abandoned = 0

    async def join(self, sinks: Iterable[SinkSettings]) -> None:
        """Give each sink its place in the journal.

        Called before any row is stored that the sink should get.
        """
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
        deadline = self._replica.clock.monotonic() + patience
        await asyncio.gather(*(one.flush(deadline) for one in self._consumers(names)))

    async def drain(self, names: Iterable[str], grace: float) -> None:
        """Let writes in flight end for at most ``grace`` seconds, acknowledge, close."""
        chosen = list(names)
        deadline = self._replica.clock.monotonic() + grace
        await asyncio.gather(*(one.drain(deadline) for one in self._consumers(chosen)))
        await self._supervisor.stop(*(f"sink:{name}" for name in chosen))

    def leave(self, names: Iterable[str]) -> None:
        """Forget sinks that the settings no longer name; the journal keeps their places."""
        for name in names:
            self._members.pop(name, None)
            # Its undelivered rows no longer count against ``journal.max_size``.
            self._journal.leave(name)

    async def settled(self, lane: str, patience: float) -> None:
        """Wait until no sink is writing events of a lane, for at most ``patience`` seconds."""
        deadline = self._replica.clock.monotonic() + patience
        while any(one.is_writing(lane) for one in self._consumers()):
            if self._replica.clock.monotonic() >= deadline:
                return  # what is written after all will be delivered twice, never lost
            await self._replica.clock.sleep(_LOOK)

    def wake(self) -> None:
        """Let every sink retry now whatever it waits for."""
        for consumer in self._consumers():
            consumer.wake()

    def states(self) -> Sequence[SinkState]:
        """Return the state of every sink that has started."""
        return [consumer.state() for consumer in self._consumers()]

    @property
    def settings(self) -> Mapping[str, SinkSettings]:
        """The settings of the sinks that have joined, by name."""
        return {name: member.settings for name, member in self._members.items()}

    @property
    def abandoned(self) -> int:
        """The batches whose fate was unknown when their sinks had to be closed."""
        return self._abandoned

    def _consumers(self, names: Iterable[str] | None = None) -> list[Consumer]:
        chosen = self._members if names is None else [n for n in names if n in self._members]
        consumers = (self._members[name].consumer for name in chosen)
        return [consumer for consumer in consumers if consumer is not None]

    async def _deliver(self, member: _Member, beat: Beat) -> None:
        """Be the task of one sink."""
        render = self._replica.rendering.render_for(member.settings, self._shard)
        try:
            await member.deliver(render, self._replica, self._shard, self._emit, beat)
        finally:
            self._replica.rendering.release(render)

    def _emit(self, event: TelemetryEvent) -> None:
        # The exit status of the process depends on it.
        if isinstance(event, SinkDrained):
            self._abandoned += event.abandoned
        self._replica.emit(event)


class _Member:
    """One sink that has joined: its place in the journal, and its consumer once it has started."""

    def __init__(self, settings: SinkSettings, queue: SinkQueue) -> None:
        self.settings = settings
        self.queue = queue
        self._consumer: Consumer | None = None

    @property
    def consumer(self) -> Consumer | None:
        return self._consumer

    async def deliver(
        self, render: Render, replica: Replica, shard: int, emit: Emit, beat: Beat
    ) -> None:
        """Deliver for ever, with a new consumer, from what was acknowledged."""
        several = replica.shards > 1
        self._consumer = Consumer(
            name=self.settings.name,
            sink=sink_of(
                self.settings,
                replica.clock,
                emit,
                replica=replica.name_of(shard),
                shard=shard if several else None,
            ),
            queue=self.queue,
            render=render,
            options=delivery_options(self.settings, replica.shards),
            clock=replica.clock,
            rng=replica.random,
            emit=emit,
        )
        await self._consumer.run(beat)


def delivery_options(sink: SinkSettings, shards: int = 1) -> DeliveryOptions:
    """Return what the settings say about a sink's delivery in one of so many shards."""
    options = sink.options
    return DeliveryOptions(
        max_events=options.batch.max_events,
        max_bytes=options.batch.max_bytes,
        max_wait=options.batch.max_wait,
        max_in_flight=options.max_in_flight,
        shards=shards,
        timeout=options.timeout,
        backoff=Backoff(initial=options.retry.initial, max=options.retry.max),
        paused=options.paused,
    )


def _task(key: StreamKey) -> str:
    return f"stream:{key}"
