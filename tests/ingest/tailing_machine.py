"""The state machine: poller, journal and source against an API that does its worst.

Every run ends with the API behaving (but for its manners) until everything has come of age. What
the sink got must then be what the API showed, and all that it still shows: nothing lost, nothing
twice.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from forwarder.core.contracts import StreamKey
from forwarder.core.journal import Gap
from forwarder.core.log import StreamLog
from forwarder.core.source_contract import Source
from forwarder.core.telemetry import ignore
from forwarder.core.timing import Backoff
from forwarder.ingest.poller import Poller
from forwarder.ingest.rounds import Gate, StreamContext
from forwarder.ingest.windows import CURSOR_IN_FUTURE, PollOptions
from forwarder.journal.stream_log import SeenPages
from forwarder.sources.cloudflare_access.account import AccessRequestsConfig, AccountConfig
from forwarder.sources.cloudflare_access.logs import AccessRequests
from forwarder.sources.cloudflare_access.walk import Advance, advance
from forwarder.transport.settings import Secret
from tests.ingest.inline_log import InlineJournal
from tests.ingest.scripted_cloudflare import (
    DAY_US,
    SECOND_US,
    SECRET,
    Cloudflare,
    Manners,
    Row,
    ScriptedApi,
    created_at,
)
from tests.ingest.virtual_time import VirtualClock

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
START_US = 1_790_000_000 * SECOND_US
POLL_S, OVERLAP_S, OLD_S = 60.0, 60.0, 900.0
FAULTS = ("throttled", "unsuccessful", "html", "truncated", "no_date", "ahead", "behind")

manners = st.builds(
    Manners,
    inclusive_since=st.booleans(),
    inclusive_until=st.booleans(),
    whole_seconds=st.booleans(),
    ignores_page=st.sampled_from([False, False, False, True]),
    order=st.sampled_from(["asc", "asc", "asc", "desc", "mixed"]),
    widens_by_us=st.sampled_from([0, 0, 0, 5 * SECOND_US, 90 * SECOND_US]),
    cap=st.sampled_from([3, 5, 8, 1000, 1000]),
) | st.builds(
    Manners,
    inclusive_since=st.booleans(),
    whole_seconds=st.booleans(),
    cap=st.sampled_from([3, 8, 20]),
    tells_cap=st.just(value=False),
)
moments = st.tuples(st.integers(0, 59), st.sampled_from([0, 0, 1, 250_000, 999_999]))


class TailingMachine(RuleBasedStateMachine):
    """What a day does to a poller."""

    key: ClassVar[StreamKey] = StreamKey(ACCOUNT, "access_requests")
    start_from: ClassVar[float] = 10_800.0
    rest: ClassVar[float] = 4 * POLL_S
    walk: ClassVar[Advance] = staticmethod(advance)
    forgetful: ClassVar[type[SeenPages]] = SeenPages
    disguise: ClassVar[Callable[[StreamLog], StreamLog]] = staticmethod(lambda log: log)
    manners: ClassVar[st.SearchStrategy[Manners]] = manners
    reconciles: ClassVar[st.SearchStrategy[tuple[float, ...]]] = st.sampled_from(
        [(), (300.0,), (300.0, OLD_S)]
    )

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = VirtualClock(START_US)
        self.cloudflare = Cloudflare(self.clock)
        self.delivered: Counter[bytes] = Counter()
        self.offset = 0
        self.died_unstored: set[bytes] = set()
        self.reconcile: tuple[float, ...] = ()
        self.repeated = self.most_repeated = 0
        self.journal: InlineJournal | None = None
        self.tasks: list[asyncio.Task[None]] = []

    # -- the world ------------------------------------------------------------------------------

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.set_up(data)

    def set_up(self, data: st.DataObject) -> None:
        self.cloudflare.manners = data.draw(type(self).manners)
        self.reconcile = data.draw(type(self).reconciles)
        self.most_repeated = len(self.reconcile)
        for age in (7200, 7200, 3000, 3000, 3000, 30, 5):
            self._row(self.clock.true_us - age * SECOND_US)
        self._start()

    @rule(moment=moments, digits=st.sampled_from([0, 1, 3, 6]), rows=st.integers(1, 3))
    def rows_appear(self, moment: tuple[int, int], digits: int, rows: int) -> None:
        for _ in range(rows):
            self._row(self._moment(moment), digits)

    @rule(moment=moments, rows=st.sampled_from([2, 7, 7, 33]), spread=st.sampled_from([0, 0, 40]))
    def a_burst(self, moment: tuple[int, int], rows: int, spread: int) -> None:
        start_us = self._moment(moment)
        for number in range(min(rows, 4 * self.cloudflare.manners.cap)):
            self._row(start_us + number * spread * 1000, 3 if spread else 0, ray_id="b" * 16)

    @rule(moment=moments, copies=st.integers(2, 3))
    def twins_appear(self, moment: tuple[int, int], copies: int) -> None:
        time_us = self._moment(moment)
        ray_id = f"twin{len(self.cloudflare.rows):012}"
        for _ in range(copies):
            self._add(time_us, created_at(time_us, 6), ray_id=ray_id)

    @rule(late_s=st.integers(1, 55), rows=st.integers(1, 2))
    def rows_are_late(self, late_s: int, rows: int) -> None:
        for _ in range(rows):
            self._row(self.clock.true_us, late_us=late_s * SECOND_US)

    @precondition(lambda self: self.reconcile and not self.repeated)
    @rule(late=st.floats(0.1, 0.9))
    def a_row_is_very_late(self, late: float) -> None:
        late_s = late * max(self.reconcile)
        readings = sum(age > late_s for age in self.reconcile)
        self.most_repeated = min(self.most_repeated, readings - 1)
        self._row(self.clock.true_us, late_us=int(late_s * SECOND_US))

    @precondition(lambda self: self.reconcile)
    @rule(ahead_s=st.sampled_from([1, 30, 300]))
    def a_row_from_the_future(self, ahead_s: int) -> None:
        self._row(self.clock.true_us + ahead_s * SECOND_US)

    @rule(text=st.sampled_from([None, "", "yesterday", 7]))
    def a_row_without_a_time(self, text: Any) -> None:
        self._add(self.clock.true_us, text)

    @rule(seconds=st.sampled_from([1, 10, 60, 61, 200, 700]))
    def time_passes(self, seconds: int) -> None:
        self._run(self._pass(seconds))

    @rule(seconds=st.sampled_from([90, 4000, 4000]), after=st.integers(0, 3))
    def rows_expire_during_a_round(self, seconds: int, after: int) -> None:
        until_us = self.clock.true_us - seconds * SECOND_US
        self._between(after, partial(self.cloudflare.expire, until_us))

    @rule(moment=moments, after=st.integers(1, 4), rows=st.sampled_from([1, 5]))
    def rows_arrive_during_a_round(self, moment: tuple[int, int], after: int, rows: int) -> None:
        def arrive() -> None:
            for _ in range(rows):
                self._row(self._moment(moment))

        self._between(after, arrive)

    @rule(key=st.sampled_from(["risk", "zone"]), after=st.integers(0, 3))
    def a_new_key_appears(self, key: str, after: int) -> None:
        def appear() -> None:
            if key not in self.cloudflare.new_keys:
                self.cloudflare.new_keys.append(key)

        self._between(after, appear)

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=3))
    def requests_fail(self, faults: list[str]) -> None:
        self.cloudflare.faults.extend(faults)

    @precondition(lambda self: self.repeated < self.most_repeated)
    @rule(after=st.integers(0, 3))
    def a_page_is_repeated(self, after: int) -> None:
        """Give an earlier answer once more: an empty one looks like that of a quiet tenant.

        Every moment is read live and once at each age, but too early for a row that is very
        late; one reading of each row must get a true answer.
        """
        self.repeated += 1
        self.cloudflare.faults.extend([""] * after + ["repeated"])

    @rule(days=st.sampled_from([-1, 1]))
    def the_local_clock_steps(self, days: int) -> None:
        """Be a day off at the most: rows without a time are known for two days."""
        shift_us = self.clock.local_shift_us + days * DAY_US
        self.clock.local_shift_us = max(-DAY_US, min(shift_us, DAY_US))

    @rule(steps=st.integers(0, 6), after=st.booleans(), down_s=st.sampled_from([0, 30, 300]))
    def killed_and_started_again(self, steps: int, after: bool, down_s: int) -> None:  # noqa: FBT001
        """Crash between any two steps: before or after the commit of a coming transaction."""
        writer = self._open.writer
        writer.steps_to_crash, writer.crash_after_commit = steps, after
        self._run(self._pass(POLL_S))
        self._stop()
        self.died_unstored.update(*self.cloudflare.latest)
        self._run(self.clock.advance(down_s))
        self._start()

    @rule(times=st.integers(1, 3))
    def the_disk_is_full(self, times: int) -> None:
        self._open.writer.failures = times

    # -- the end --------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if self.journal is not None:
                self._finish()
                self._compare()
        finally:
            self._stop()
            self.loop.close()
            self.folder.cleanup()

    def _finish(self) -> None:
        while self.cloudflare.between:
            act = self.cloudflare.between.popleft()
            if act is not None:
                act()
        self.cloudflare.faults.clear()
        self._open.writer.failures = 0
        last_us = max(max(row.visible_us, row.place_us) for row in self.cloudflare.rows)
        rest = (last_us - self.clock.true_us) / SECOND_US + 4 * POLL_S
        ages = 1.5 * max(self.reconcile, default=0.0) + 2 * POLL_S
        self._run(self._pass(max(self.rest, rest) + ages))

    def _compare(self) -> None:
        gaps = [gap for gap in self._open.gaps() if gap.rows is None]

        def recorded(row: bytes) -> bool:
            said = [r for r in self.cloudflare.rows if self._text(r.body) == row]
            return all(any(self._explains(gap, one) for gap in gaps) for one in said)

        survivors = self.cloudflare.survivors(self._is_wanted)
        missing = set(self.cloudflare.shown - self.delivered) - self.died_unstored
        assert not missing, f"shown and not delivered: {missing}"
        twice = set(self.delivered - self.cloudflare.shown) - self._forgotten()
        assert not twice, f"delivered more often than shown: {twice}"
        unseen = survivors - self.delivered.keys()
        lost = [row for row in unseen if not recorded(row)]
        assert not lost, f"not delivered, and not in the gap ledger: {lost}"

    def _forgotten(self) -> set[bytes]:
        """Return the rows that may come twice: forgotten, and read again after a false date."""
        until_us = self._open.forgotten_until()
        if until_us is None or CURSOR_IN_FUTURE not in {gap.reason for gap in self._open.gaps()}:
            return set()
        return {self._text(r.body) for r in self.cloudflare.rows if r.place_us <= until_us}

    def _is_wanted(self, row: Row) -> bool:
        del row
        return True

    def _explains(self, gap: Gap, row: Row) -> bool:
        return gap.since_us <= row.place_us <= gap.until_us

    # -- the works ------------------------------------------------------------------------------

    @property
    def _open(self) -> InlineJournal:
        assert self.journal is not None
        return self.journal

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    async def _pass(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        for task in self.tasks:
            if task.done():
                task.result()
        for page in self._open.drain(self.offset, keep_us=DAY_US + 4 * 3600 * SECOND_US):
            self.offset = page.end_offset
            assert SECRET.encode() not in page.body
            if page.stream == self.key.stream:
                self.delivered.update(map(self.cloudflare.stripped, page.rows))

    def _start(self) -> None:
        clock = self.clock
        config = AccountConfig(account_id=ACCOUNT, api_token=Secret("t"), rate_limit=None)
        api = ScriptedApi(self.cloudflare, config, clock)
        journal = InlineJournal(Path(self.folder.name), self.key, clock, type(self).forgetful())
        around = StreamContext(
            key=self.key,
            account="acme",
            source=self._source(api, config),
            log=type(self).disguise(journal.log),
            gate=Gate(2**40, _nothing_undelivered, clock, ignore),
            clock=clock,
            rng=Random(1),
            emit=ignore,
            beat=_nothing,
            retention=86_400.0,
            backoff=Backoff(1.0, 4.0, 2.0, 4.0),
        )
        options = PollOptions(POLL_S, self.start_from, OVERLAP_S, self.reconcile, 86_400.0)
        self.journal = journal
        self.tasks = [self.loop.create_task(Poller(around, options).run())]
        self._run(clock.settle())

    def _source(self, api: ScriptedApi, config: AccountConfig) -> Source:
        logins = AccessRequestsConfig(page_size=1000)
        return AccessRequests(api, config, logins, advance=type(self).walk)

    def _stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        self._run(_ended(self.tasks))
        self.tasks = []
        if self.journal is not None:
            self.journal.close()
            self.journal = None

    def _row(self, time_us: int, digits: int = 6, *, late_us: int = 0, **values: Any) -> None:
        number = len(self.cloudflare.rows)
        values = {"country": "de"} | values if number % 3 else values
        values = {"app": f"app-{number}"} | values
        self._add(time_us, created_at(time_us, digits), late_us=late_us, **values)

    def _add(self, time_us: int, text: Any, **values: Any) -> None:
        self.cloudflare.add(time_us, text, **values)

    def _moment(self, moment: tuple[int, int]) -> int:
        """Return a time up to a minute ago that late rows may still have without reconciliation."""
        seconds, micros = moment
        now_us = self.clock.true_us // SECOND_US * SECOND_US
        return now_us - min(seconds, 50) * SECOND_US + (micros if seconds else 0)

    def _between(self, requests: int, act: Callable[[], None]) -> None:
        pending = self.cloudflare.between
        pending.extend([None] * max(0, requests + 1 - len(pending)))
        earlier = pending[requests]
        pending[requests] = act if earlier is None else _both(earlier, act)

    def _text(self, body: dict[str, Any]) -> bytes:
        return self.cloudflare.stripped(body)


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def act() -> None:
        first()
        second()

    return act


def _nothing() -> None:
    return


async def _nothing_undelivered() -> int:
    return 0


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
