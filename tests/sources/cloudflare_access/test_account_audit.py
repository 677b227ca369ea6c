"""The audit log: the walk by cursors, what is read and stored, and what a poller makes of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from forwarder.core.contracts import Window
from forwarder.core.source_contract import SourceContext
from forwarder.core.timing import SystemClock, format_us
from forwarder.simulator import (
    ACCOUNT_AUDIT,
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    Fault,
    ManualClock,
    Simulator,
    SimulatorSettings,
)
from forwarder.simulator.audit_log import SECRET
from forwarder.sources.cloudflare_access import CloudflareAccess
from forwarder.sources.cloudflare_access.account import AccountConfig
from forwarder.sources.cloudflare_access.account_audit import Place, Seen, advance
from forwarder.sources.cloudflare_access.answers import RequestRefusedError
from forwarder.sources.cloudflare_access.logs import Versions

SECOND_US = 1_000_000
NOON = 1_790_000_000
WINDOW = Window((NOON - 600) * SECOND_US, NOON * SECOND_US)


class Server:
    """Rows at whole seconds, in pages with cursors that may lead in a circle."""

    def __init__(self, seconds: Sequence[int], size: int, loop: int = 0) -> None:
        self.rows = sorted(seconds)
        self.size = size
        self.loop = loop
        self.shown = set[int]()

    def answer(self, place: Place) -> Seen:
        behind = [n for n, t in enumerate(self.rows) if t * SECOND_US >= place.since_us]
        start = int(place.cursor) if place.cursor else (behind[0] if behind else len(self.rows))
        numbers = range(start, min(start + self.size, len(self.rows)))
        self.shown.update(numbers)
        end = start + self.size
        # A circle: the cursor leads back by so many pages.
        end -= self.loop * self.size if self.loop and end > self.loop * self.size else 0
        more = start + self.size < len(self.rows) or self.loop
        times = [self.rows[n] * SECOND_US for n in numbers]
        return Seen(times, str(end) if more else "", full=len(times) == self.size)


def walked(server: Server) -> tuple[int, list[Any]]:
    """Return the number of requests to the window's end, and what was lost."""
    place: Place | None = Place.first(WINDOW, "")
    lost, count = [], 0
    while place is not None:
        # A position goes through JSON on its way.
        kept = Place.from_json(orjson.loads(orjson.dumps(asdict(place))), "")
        assert kept == place
        place, gone = advance(kept, WINDOW, server.answer(kept))
        lost += [gone] if gone else []
        count += 1
        assert count < 1000
    return count, lost


seconds = st.lists(st.integers(NOON - 600, NOON - 1), max_size=60)


@given(seconds, st.integers(1, 9))
def test_a_server_that_behaves_is_read_once(rows: list[int], size: int) -> None:
    assume(len(rows) != size)
    server = Server(rows, size)

    count, lost = walked(server)

    assert lost == []
    assert server.shown == set(range(len(rows)))
    # A full last page has no cursor, and costs requests for what may be behind it.
    assert count <= len(rows) // size + 6


@given(seconds, st.integers(2, 9), st.integers(1, 4))
def test_a_circle_of_cursors_has_an_end_and_hides_nothing_silently(
    rows: list[int], size: int, loop: int
) -> None:
    server = Server(rows, size, loop)

    _, lost = walked(server)

    missing = {rows[n] for n in set(range(len(rows))) - server.shown for rows in [server.rows]}
    assert all(any(one.since_us <= t * SECOND_US <= one.until_us for one in lost) for t in missing)


def test_a_full_page_without_a_cursor_is_continued_by_time() -> None:
    place = Place.first(WINDOW, "")
    times = [(NOON - 500 + n) * SECOND_US for n in range(5)]

    following, lost = advance(place, WINDOW, Seen(times, "", full=True))

    assert following is not None
    assert (following.since_us, following.cursor) == (times[-1] - SECOND_US, "")
    assert lost is None


def test_a_server_that_gives_the_newest_first_is_not_continued_by_time() -> None:
    place: Place | None = Place.first(WINDOW, "")
    times = [(NOON - n) * SECOND_US for n in range(5)]
    lost = None
    while place is not None:
        place, lost = advance(place, WINDOW, Seen(times, "", full=True))

    assert lost is not None
    assert lost.since_us <= WINDOW.since_us


@pytest.mark.parametrize("kept", [None, 1, {}, {"since_us": 1}, {"page": 2}])
def test_a_position_of_another_version_is_none(kept: Any) -> None:
    assert Place.from_json(kept, "") is None


def test_a_position_of_other_filters_is_none() -> None:
    assert Place.from_json(asdict(Place.first(WINDOW, "a")), "b") is None


def test_versions_count_each_change_once() -> None:
    versions = Versions(most=2)

    found = [versions.amended([b"1"], [content]) for content in (b"a", b"a", b"b", b"b", b"a")]
    assert found == [0, 0, 1, 0, 1]
    versions.amended([b"2", b"3"], [b"x", b"y"])
    assert versions.amended([b"1"], [b"z"]) == 0


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    settings = SimulatorSettings(rate=0, scim_rate=0, audit_rate=0.5, history=600)
    async with Simulator(settings, clock=ManualClock(NOON)) as started:
        yield started


async def read(simulator: Simulator, **config: Any) -> list[dict[str, Any]]:
    """Return the rows of the last ten minutes as they would be stored."""
    clock = SystemClock()
    account = AccountConfig.model_validate(
        {
            "account_id": DEFAULT_ACCOUNT,
            "api_token": DEFAULT_TOKEN,
            "api_url": simulator.url,
            "streams": {ACCOUNT_AUDIT: {"page_size": 50, **config}},
        }
    )
    plugin = CloudflareAccess(account, SourceContext(clock, CloudflareAccess.share(clock, None)))
    source, position, rows = plugin.streams()[ACCOUNT_AUDIT].source, None, []
    try:
        while True:
            page = await source.fetch(WINDOW, position)
            rows += [orjson.loads(record.row) for record in page.records]
            position = page.position
            if position is None:
                return rows
    finally:
        await plugin.aclose()


def ids(rows: Sequence[dict[str, Any]]) -> list[str]:
    return sorted(row["id"] for row in rows)


async def test_all_products_are_all_rows(simulator: Simulator) -> None:
    rows = await read(simulator, products="all")

    assert len(rows) > 200
    assert ids(simulator.shown(DEFAULT_ACCOUNT, ACCOUNT_AUDIT)) == ids(rows)


async def test_by_default_rows_that_concern_something_else_are_not_kept(
    simulator: Simulator,
) -> None:
    products = {row["resource"]["product"] for row in await read(simulator)}

    shown = simulator.shown(DEFAULT_ACCOUNT, ACCOUNT_AUDIT)
    assert {row["resource"]["product"] for row in shown} - products == {"dns_records", "workers"}


async def test_categories_are_filtered_by_cloudflare(simulator: Simulator) -> None:
    rows = await read(simulator, products=["DNS", "logs"])

    assert {row["resource"]["product"] for row in rows} == {"dns_records", "logpush"}


async def test_an_unknown_category_is_for_a_person(simulator: Simulator) -> None:
    with pytest.raises(RequestRefusedError) as refused:
        await read(simulator, products=["acess"])

    assert refused.value.about == "parameters"


async def test_no_secret_of_a_body_is_stored(simulator: Simulator) -> None:
    rows = await read(simulator, products="all")

    shown = orjson.dumps(simulator.shown(DEFAULT_ACCOUNT, ACCOUNT_AUDIT)).decode()
    assert SECRET in shown
    assert SECRET not in orjson.dumps(rows).decode()
    assert "deploy-bot" in orjson.dumps(rows).decode()


async def test_bodies_can_be_left_out(simulator: Simulator) -> None:
    rows = await read(simulator, bodies=False)

    assert not [row for row in rows if {"request", "response"} & row["resource"].keys()]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("cursor_elsewhere", times=None),
        Fault("empty_page", times=2),
        Fault("repeat_cursor", after=2, times=1),
        Fault("forget_cursors", after=2, times=1),
        Fault("ignore_direction", times=None),
        Fault("exclusive_since", times=None),
        Fault("small_page", count=30, times=None),
        Fault("shuffle_keys", times=None),
    ],
    ids=lambda fault: str(fault.kind),
)
async def test_faults_of_the_server_lose_nothing(simulator: Simulator, fault: Fault) -> None:
    expected = ids(await read(simulator, products="all"))
    simulator.faults.add(fault)

    assert expected == sorted(set(ids(await read(simulator, products="all"))))


async def test_rows_larger_than_an_answer_may_be_come_in_smaller_pages(
    simulator: Simulator,
) -> None:
    await asyncio.sleep(0)
    for number in range(60):
        moment = format_us((NOON - 300 + number) * SECOND_US)
        body = {"text": f"{number}" * 100_000}
        simulator.add(
            DEFAULT_ACCOUNT,
            ACCOUNT_AUDIT,
            {"id": f"large-{number}", "action": {"time": moment}, "resource": {"request": body}},
        )

    rows = await read(simulator, products="all")
    assert sum(row["id"].startswith("large") for row in rows) == 60
