"""The delivering side: one supervised consumer a sink."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import SystemRandom

from forwarder.config import SinkSettings
from forwarder.core.contracts import Render, SinkContext
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Backoff, Clock
from forwarder.delivery.consumer import Consumer
from forwarder.delivery.options import DeliveryOptions
from forwarder.delivery.queue import SinkQueue
from forwarder.delivery.state import SinkState
from forwarder.journal import Journal
from forwarder.runtime.rendering import Rendering
from forwarder.runtime.streams import USER_AGENT
from forwarder.runtime.supervisor import Beat, Supervisor


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
