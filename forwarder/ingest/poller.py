"""The loops of one stream: the live reader, new parts, and the trailing readers.

The live reader follows the log; trailing readers read everything once more when it has come of
age, for rows that appear late; a new part has a reader of its own until it is level. ``windows``
decides what is read, ``rounds`` reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from forwarder.core.contracts import LIVE, StreamKey, Window
from forwarder.core.log import Addition, ReaderState
from forwarder.core.own_events import Own, own_row
from forwarder.core.source_contract import Parts, Purpose
from forwarder.ingest.events import PartJoined, PartsChanged, RetentionNear, RoundStarted
from forwarder.ingest.rounds import (
    PARTS,
    START,
    Failure,
    Reading,
    Retrier,
    Rounds,
    StreamContext,
)
from forwarder.ingest.windows import (
    Group,
    PollOptions,
    expired_past,
    joining_parts,
    plan_live,
    reader_of,
    regroup,
    retention_left,
    safe_place,
    settled_back,
    slice_window,
    trailing,
    us,
)


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """The state of a stream as status and health show it.

    ``covered_until`` maps readers to microseconds; ``retention_left_s`` is None before the first
    round. ``success_age_s`` is None until a page was stored. ``phase`` is one of ``starting``,
    ``running``, ``waiting`` (a failure that will pass), ``held`` (a person must act), ``gated``,
    ``idle`` (no parts to read).
    """

    account: str
    stream: str
    phase: str
    covered_until: Mapping[str, int]
    retention_left_s: float | None
    success_age_s: float | None
    failure: Failure | None
    parts: tuple[str, ...] | None


def phase(
    failure: Failure | None, *, started: bool, gated: bool, parts: tuple[str, ...] | None
) -> str:
    """Return the phase of a stream (see ``StreamStatus``)."""
    if failure is not None:
        return "held" if failure.held else "waiting"
    if not started:
        return "starting"
    if gated:
        return "gated"
    return "idle" if parts == () else "running"


_HALF = 0.5
COVERAGE_EVERY_US = 300_000_000


class Poller:
    """Owns the readers of one stream. ``run`` it as one task; cancel it to stop."""

    def __init__(self, context: StreamContext, options: PollOptions) -> None:
        """Do no I/O; everything starts in ``run``."""
        self._context = context
        self._options = options
        self._retrier = Retrier(context)
        self._rounds = Rounds(context, self._retrier)
        self._readers: dict[str, ReaderState] = {}
        self._group = Group()
        self._began_us: int | None = None

    def wake(self) -> None:
        """Retry at once whatever waits: a secret changed, an operator asked."""
        self._retrier.wake()

    async def run(self) -> None:
        """Poll for ever."""
        await self._start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._live_loop(), name=f"{self._context.key} live")
            tasks.create_task(self._trailing_loop(), name=f"{self._context.key} trailing")

    def state(self) -> StreamStatus:
        """Return a snapshot for status and health."""
        rounds, context, failures = self._rounds, self._context, self._retrier.failures
        # The live reader matters most; what a trailing reader waits for is shown if nothing else.
        failure = failures.get(LIVE) or failures.get(START) or next(iter(failures.values()), None)
        live, left = self._readers.get(LIVE), None
        if live is not None and rounds.clock_known:
            left = retention_left(live.covered_until_us, rounds.now_us(), self._options.retention)
        return StreamStatus(
            context.account,
            context.key.stream,
            phase(
                failure,
                started=bool(self._readers),
                gated=context.gate.closed,
                parts=self._group.ids,
            ),
            {name: state.covered_until_us for name, state in self._readers.items()},
            left,
            rounds.success_age,
            failure,
            self._group.ids,
        )

    async def _start(self) -> None:
        """Load what is known, learn the server's time, and give every reader its place."""
        log, options, until_done = self._context.log, self._options, self._retrier.until_done
        readers = dict(await self._rounds.load(START))
        kept = await until_done(START, lambda: log.recall("group"))
        now_us = self._rounds.now_us()
        self._began_us = None if LIVE in readers else now_us
        wanted = {LIVE: options.start_from} | {trailing(age): age for age in options.ages}
        # Ages that left the settings: their readers would hold back what is forgotten for ever.
        for name in [n for n in readers if n.startswith("reconcile:") and n not in wanted]:
            await until_done(START, partial(log.forget, name))
            del readers[name]
        for name, age in wanted.items():
            if name not in readers:
                readers[name] = ReaderState(now_us - us(age))
                await self._save(name, readers[name])
        self._readers = readers
        self._group = Group.from_json(kept) or await self._first_group()

    async def _first_group(self) -> Group:
        """Take all parts of the very first start into the group: they start level."""
        parts = await self._rounds.list_parts(None)
        await self._keep_group(Group(parts.ids, parts.memory))
        return self._group

    async def _live_loop(self) -> None:
        context, interval = self._context, self._options.poll_interval
        due = context.clock.monotonic()
        while True:
            await self._retrier.pause(max(0.0, due - context.clock.monotonic()))
            context.beat()
            late_by = max(0.0, context.clock.monotonic() - due)
            context.emit(RoundStarted(context.account, context.key.stream, late_by))
            await self._live_round()
            # A round that a person had to end has waited for that: it is resumed at once.
            wait = 0.0 if self._readers[LIVE].window else interval
            due = max(due + wait, context.clock.monotonic())

    async def _live_round(self) -> None:
        """Resume an interrupted round, or read from covered-until to the server's now."""
        if not await self._regroup():
            return
        context, options, now_us = self._context, self._options, self._rounds.now_us()
        plan = plan_live(
            self._readers[LIVE],
            now_us,
            options,
            safe_us=safe_place(self._readers, now_us, options),
            past_us=self._began_us,
        )
        if plan.state is None:
            return
        behind, covered_us = plan.left < options.retention * _HALF, plan.state.covered_until_us
        first_round, hold_back_us = self._began_us is not None, us(options.hold_back)
        # A first round reads the whole history: being far behind is its task, not an alarm.
        if behind and not first_round:
            context.emit(RetentionNear(context.account, context.key.stream, plan.left))
        reading = Reading(
            LIVE,
            Purpose.RESCUE if behind else Purpose.LIVE,
            late_before_us=None if first_round else covered_us,
            parts=self._group.ids or (),
            lost=plan.lost,
            tell=partial(
                coverage, context.key, context.account, plan.state, hold_back_us=hold_back_us
            ),
            hold_back_us=hold_back_us,
        )
        self._readers[LIVE] = state = await self._rounds.read(reading, plan.state)
        self._began_us = self._began_us if state.window else None

    async def _regroup(self) -> bool:
        """List the parts and let level ones join; return True if there is anything to read."""
        known = self._group
        if known.ids is None:
            return True
        parts = await self._rounds.list_parts(known.memory)
        now = await self._change_group(known, parts)
        # With nothing to read there is nothing to miss: the position follows the server's clock.
        if not now:
            covered_us = self._rounds.now_us()
            self._readers[LIVE] = ReaderState(covered_us)
        return bool(now)

    async def _change_group(self, known: Group, parts: Parts) -> tuple[str, ...]:
        log, joining = self._context.log, joining_parts(self._readers)
        live = self._readers[LIVE]
        live_us = live.window.until_us if live.window else live.covered_until_us
        level = {part for part in joining if self._is_level(reader_of(part), live_us)}
        member = regroup(known.ids or (), joining, level, parts.ids or ())
        group = Group(member.group, parts.memory)
        if group != known:
            await self._keep_group(group)
        start_us = self._rounds.now_us() - us(self._options.start_from)
        # A new part has a past that nobody has read; its own reader brings it level first.
        for part in member.added:
            await self._save(reader_of(part), ReaderState(start_us))
        for part in {*member.joined, *(p for p in member.removed if p in joining)}:
            await self._retrier.until_done(PARTS, partial(log.forget, reader_of(part)))
            self._readers.pop(reader_of(part), None)
        self._emit_parts(member.added, member.removed, member.joined)
        return group.ids or ()

    def _is_level(self, reader: str, live_us: int) -> bool:
        """Return True if a part may join: it is read from the overlap on, without a hole before."""
        state = self._readers[reader]
        return state.window is None and state.covered_until_us >= live_us - us(
            self._options.overlap
        )

    def _emit_parts(
        self, added: tuple[str, ...], removed: tuple[str, ...], joined: tuple[str, ...]
    ) -> None:
        account, stream = self._context.account, self._context.key.stream
        if added or removed:
            self._context.emit(PartsChanged(account, stream, added, removed))
        for part in joined:
            self._context.emit(PartJoined(account, stream, part))

    async def _keep_group(self, group: Group) -> None:
        log = self._context.log
        await self._retrier.until_done(PARTS, lambda: log.keep("group", group.to_json()))
        self._group = group

    async def _trailing_loop(self) -> None:
        """Bring new parts level and re-read what has come of age, one window at a time."""
        while True:
            self._context.beat()
            busy = await self._join_once()
            for age in self._options.ages:
                busy |= await self._reconcile_once(age)
            if not busy:
                await self._retrier.pause(min(self._options.poll_interval, 10.0))

    async def _join_once(self) -> bool:
        """Read one window of every part that is not level yet; return True if there was one."""
        busy = False
        for part in joining_parts(self._readers):
            name = reader_of(part)
            state, live_us = self._readers[name], self._readers[LIVE].covered_until_us
            lost = expired_past(state, self._rounds.now_us(), self._options)
            if state.window is None and state.covered_until_us < live_us:
                state = replace(state, window=Window(state.covered_until_us, live_us))
            if state.window is None:
                continue
            reading = Reading(name, Purpose.RESCUE, parts=(part,), lost=lost)
            state = await self._rounds.read(reading, state)
            # The part may have left, or joined the group, while its window was read.
            if name in self._readers:
                self._readers[name] = state
            busy = True
        return busy

    async def _reconcile_once(self, age: float) -> bool:
        """Read the next slice that has come of age, if the live reader has been there.

        Returns True if a slice was read.
        """
        name, live_us = trailing(age), self._readers[LIVE].covered_until_us
        now_us = self._rounds.now_us()
        kept = max(self._options.retention, self._options.start_from)
        state = settled_back(self._readers[name], now_us, age, kept)
        if self._group.ids == ():
            self._readers[name] = ReaderState(max(state.covered_until_us, now_us - us(age)))
            return False
        window = state.window or slice_window(state.covered_until_us, now_us, age)
        # Never ahead of the live reader: rows that it has not met would count as late.
        if window is None or window.until_us > live_us:
            return False
        reading = Reading(
            name,
            Purpose.RECONCILE,
            late_before_us=live_us,
            parts=self._group.ids or (),
            tell=partial(late_rows, self._context.key, self._context.account, window),
        )
        self._readers[name] = await self._rounds.read(reading, replace(state, window=window))
        return True

    async def _save(self, name: str, state: ReaderState) -> None:
        addition, log = Addition(name, state, self._context.clock.now_us()), self._context.log
        await self._retrier.until_done(START, lambda: log.append(addition))
        self._readers[name] = state


def coverage(
    key: StreamKey, account: str, state: ReaderState, rows: int, *, hold_back_us: int = 0
) -> list[dict[str, Any]]:
    """Return "complete until, n rows" once for every five minutes covered; a SIEM can miss it.

    ``state`` is the live reader's with the window that ends, of which the last ``hold_back_us`` do
    not count.
    """
    before_us = state.covered_until_us
    covered_us = state.window.until_us - hold_back_us if state.window else before_us
    if covered_us // COVERAGE_EVERY_US <= before_us // COVERAGE_EVERY_US:
        return []
    return [
        own_row(
            Own.COVERAGE, covered_us, stream=key, account=account, until_us=covered_us, rows=rows
        )
    ]


def late_rows(key: StreamKey, account: str, slice_: Window, rows: int) -> list[dict[str, Any]]:
    """Return how many rows of a slice appeared only when it was read again; nothing for none."""
    if not rows:
        return []
    return [
        own_row(
            Own.LATE_ROWS,
            slice_.until_us,
            stream=key,
            account=account,
            since_us=slice_.since_us,
            until_us=slice_.until_us,
            rows=rows,
        )
    ]
