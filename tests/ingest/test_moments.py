"""Moments that no source can hold: a stream continues, whatever its position says."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from forwarder.core.contracts import LIVE, Window
from forwarder.core.log import Addition, ReaderState
from forwarder.core.timing import EARLIEST_US, LATEST_US, format_seconds, format_us, parse_us
from forwarder.ingest.backfill import Backfiller, BackfillOrder, pages_of
from forwarder.ingest.windows import trailing
from tests.ingest.scripted_cloudflare import SECOND_US
from tests.sources.cloudflare_access.test_growth import START_US, Tenant

BEYOND = 10**18
HOUR_US = 3600 * SECOND_US


@pytest.fixture
async def tenant(tmp_path: Path) -> AsyncIterator[Tenant]:
    tenant = Tenant(tmp_path)
    yield tenant
    tenant.journal.close()


@pytest.mark.parametrize("time_us", [EARLIEST_US, -BEYOND, LATEST_US, BEYOND])
def test_a_moment_out_of_range_is_written_as_the_nearest(time_us: int) -> None:
    for text in (format_us(time_us), format_seconds(time_us)):
        found = parse_us(text)
        assert found is not None
        assert abs(found - min(max(time_us, EARLIEST_US), LATEST_US)) < SECOND_US


@pytest.mark.parametrize("reader", ["live", trailing(300.0)])
@pytest.mark.parametrize("covered_us", [EARLIEST_US, -BEYOND, LATEST_US, BEYOND])
async def test_a_reader_from_such_a_moment_reads_on(
    tenant: Tenant, reader: str, covered_us: int
) -> None:
    await tenant.journal.log.append(Addition(reader, ReaderState(covered_us), START_US))
    count = tenant.burst(1.0, 20, (1.0, 1.0), 5.0)

    await tenant.live_on(700)

    assert count == tenant.delivered()
    assert tenant.journal.readers()[reader] >= START_US + 60 * SECOND_US


@pytest.mark.parametrize("since_us", [EARLIEST_US, -BEYOND])
async def test_a_backfill_from_such_a_moment_has_an_end(tenant: Tenant, since_us: int) -> None:
    tenant.burst(1.0, 20, (0.0, 0.0), 5.0)
    await tenant.clock.advance(3600)
    order = BackfillOrder(LIVE, Window(since_us, START_US + HOUR_US))

    backfiller = Backfiller(tenant.context, order)
    task = asyncio.create_task(backfiller.run())
    await tenant.clock.advance(60)

    assert task.done()
    assert backfiller.rows == 20
    assert len(tenant.cloudflare.requests) < 100


@pytest.mark.parametrize("window", [Window(START_US, START_US - HOUR_US), Window(BEYOND, -BEYOND)])
async def test_a_reversed_window_holds_nothing(tenant: Tenant, window: Window) -> None:
    assert [page async for page in pages_of(tenant.context.source, window, ())] == []
