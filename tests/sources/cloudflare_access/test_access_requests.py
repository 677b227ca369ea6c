"""What the authentication log is asked for, and what an answer moves."""

import asyncio

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import Page, Window
from forwarder.core.source_contract import Parts
from forwarder.core.timing import parse_us
from forwarder.sources.cloudflare_access.account import AccessRequestsConfig, AccountConfig
from forwarder.sources.cloudflare_access.logs import (
    AccessRequests,
    request_parameters,
    urgency,
)
from forwarder.sources.cloudflare_access.walk import SECOND_US, Step
from forwarder.transport.settings import Secret
from tests.ingest.scripted_cloudflare import Cloudflare, ScriptedApi, created_at
from tests.ingest.virtual_time import VirtualClock

START_US = 1_790_000_000 * SECOND_US
WINDOW = Window(START_US - 100 * SECOND_US, START_US)
CONFIG = AccountConfig(account_id="a" * 32, api_token=Secret("t"), rate_limit=None)
moments = st.integers(START_US - 10**12, START_US + 10**12)


@given(moments, moments, st.integers(1, 9), st.integers(1, 1000))
def test_the_question_leaves_out_nothing_of_the_window(
    since_us: int, until_us: int, page: int, size: int
) -> None:
    asked = dict(request_parameters(Step(since_us, page), Window(since_us, until_us), size))

    assert (parse_us(asked["since"]) or 0) == since_us
    assert until_us <= (parse_us(asked["until"]) or 0) < until_us + SECOND_US
    assert (asked["direction"], asked["page"]) == ("asc", str(page))
    assert asked["limit"] == asked["per_page"] == str(size)


@given(moments.map(lambda us: us // SECOND_US * SECOND_US))
def test_whole_seconds_are_asked_for_without_a_fraction(since_us: int) -> None:
    asked = dict(request_parameters(Step(since_us), Window(since_us, since_us), 1))

    assert "." not in asked["since"] + asked["until"]


@given(moments, moments)
def test_what_expires_sooner_is_more_urgent(one: int, other: int) -> None:
    assert (one < other) == (urgency(Step(one), CONFIG) < urgency(Step(other), CONFIG))


class Rig:
    """A source over a scripted API that holds a few rows."""

    def __init__(self, config: AccessRequestsConfig) -> None:
        clock = VirtualClock(START_US)
        self.cloudflare = Cloudflare(clock)
        self.source = AccessRequests(ScriptedApi(self.cloudflare, CONFIG, clock), CONFIG, config)

    def add(self, *seconds_ago: int) -> None:
        for seconds in seconds_ago:
            time_us = START_US - seconds * SECOND_US
            self.cloudflare.add(time_us, created_at(time_us, 0))

    async def read(self) -> list[Page]:
        position, pages = None, list[Page]()
        while not pages or position is not None:
            pages.append(await self.source.fetch(WINDOW, position))
            position = orjson.loads(orjson.dumps(pages[-1].position))
        return pages


async def test_a_window_is_read_to_its_end_and_says_how_far_it_is() -> None:
    rig = Rig(AccessRequestsConfig(page_size=3))
    rig.add(*range(90, 0, -10))

    pages = await rig.read()

    reached = [page.reached_us for page in pages[:-1] if page.reached_us is not None]
    assert len({record.identity for page in pages for record in page.records}) == 9
    assert reached == sorted(reached)
    assert pages[-1].reached_us is None


async def test_the_accounts_own_filters_go_along() -> None:
    rig = Rig(AccessRequestsConfig(query={"allowed": False}))

    await rig.read()

    (asked,) = rig.cloudflare.requests
    assert asked["allowed"] == "false"


@pytest.mark.parametrize("position", [7, [], {}, {"since_us": "now"}])
def test_a_position_that_cannot_be_read_starts_anew(position: object) -> None:
    rig = Rig(AccessRequestsConfig())
    rig.add(10)

    page = asyncio.run(rig.source.fetch(WINDOW, position))

    assert len(page.records) == 1


async def test_the_stream_has_no_parts() -> None:
    assert await Rig(AccessRequestsConfig()).source.parts({"kept": 1}, START_US) == Parts()
