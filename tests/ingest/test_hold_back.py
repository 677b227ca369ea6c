"""A stream whose rows appear late: read at once, covered later."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from forwarder.core.contracts import LIVE, StreamKey, Window
from forwarder.core.log import ReaderState
from forwarder.core.telemetry import TelemetryEvent
from forwarder.core.timing import format_us
from forwarder.ingest.events import PageStored
from forwarder.ingest.poller import Poller, coverage
from forwarder.ingest.rounds import Gate, StreamContext
from forwarder.ingest.windows import PollOptions
from forwarder.sources.cloudflare_access.account import AccessRequestsConfig, AccountConfig
from forwarder.sources.cloudflare_access.logs import AccessRequests
from forwarder.transport.settings import Secret
from tests.ingest.inline_log import InlineJournal
from tests.ingest.scripted_cloudflare import Cloudflare, ScriptedApi, created_at
from tests.ingest.virtual_time import VirtualClock

SECOND_US = 1_000_000
NOON_US = 1_790_000_000 * SECOND_US
KEY = StreamKey("a" * 32, "account_audit")
LAG_S = 300


async def _nothing() -> int:
    return 0


async def _poll_late_rows(folder: Path, hold_back: float) -> tuple[ReaderState, int, list[float]]:
    """Poll for twenty minutes while every row appears five minutes late.

    Return the live reader's state, the number of rows that were stored, and how late each was that
    counted as late.
    """
    clock, events = VirtualClock(NOON_US), list[TelemetryEvent]()
    cloudflare = Cloudflare(clock)
    for second in range(0, 1200, 20):
        time_us = NOON_US + second * SECOND_US
        cloudflare.add(time_us, created_at(time_us, 6), late_us=(second + LAG_S) * SECOND_US)
    config = AccountConfig(account_id=KEY.account_id, api_token=Secret("t"), rate_limit=None)
    journal = InlineJournal(folder, KEY, clock)
    context = StreamContext(
        key=KEY,
        account="acme",
        source=AccessRequests(
            ScriptedApi(cloudflare, config, clock), config, AccessRequestsConfig()
        ),
        log=journal.log,
        gate=Gate(2**40, _nothing, clock, events.append),
        clock=clock,
        rng=Random(1),
        emit=events.append,
        beat=lambda: None,
        retention=86_400.0,
    )
    options = PollOptions(30.0, 600.0, 60.0, (), 86_400.0, hold_back)
    task = asyncio.create_task(Poller(context, options).run())
    await clock.advance(1200)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    memory = await journal.log.load()
    delivered = [page.count for page in journal.drain(0) if page.stream == KEY.stream]
    journal.close()
    stored = [one for one in events if isinstance(one, PageStored)]
    return (
        memory.readers[LIVE],
        sum(delivered),
        [seconds for one in stored for seconds in one.late_s],
    )


async def test_late_rows_are_delivered_and_none_counts_as_late(tmp_path: Path) -> None:
    live, rows, late = await _poll_late_rows(tmp_path, 600.0)

    assert late == []
    assert rows == pytest.approx((1200 - LAG_S) / 20, abs=1)
    assert live.covered_until_us == pytest.approx(NOON_US + 600 * SECOND_US, abs=31 * SECOND_US)


async def test_rows_later_than_the_overlap_need_the_hold_back(tmp_path: Path) -> None:
    _, rows, _ = await _poll_late_rows(tmp_path, 0.0)

    assert rows == 0


def test_what_is_held_back_is_not_reported_as_covered() -> None:
    state = ReaderState(NOON_US - 1200 * SECOND_US, Window(NOON_US - 1800 * SECOND_US, NOON_US))

    (row,) = coverage(KEY, "acme", state, 7, hold_back_us=600 * SECOND_US)

    assert row["to"] == format_us(NOON_US - 600 * SECOND_US)


def test_a_window_that_covers_nothing_new_reports_nothing() -> None:
    state = ReaderState(NOON_US - 60 * SECOND_US, Window(NOON_US - 1800 * SECOND_US, NOON_US))

    assert coverage(KEY, "acme", state, 7, hold_back_us=600 * SECOND_US) == []
