"""Logins without identity: every group of a window is read, and what cannot be is a gap."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import Page, Window
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.schema import MALFORMED_KEY, Login
from forwarder.core.source_contract import Source, SourceContext
from forwarder.core.timing import SystemClock, format_us
from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    NON_IDENTITY_LOGINS,
    Fault,
    ManualClock,
    RatePolicy,
    Simulator,
    SimulatorSettings,
    Token,
)
from forwarder.sources.cloudflare_access import CloudflareAccess
from forwarder.sources.cloudflare_access.answers import (
    RequestRefusedError,
    Response,
    ThrottledError,
)
from forwarder.sources.cloudflare_access.non_identity import NON_IDENTITY_LOGINS as ENDPOINT
from forwarder.sources.cloudflare_access.non_identity import (
    Node,
    Slice,
    advance,
    read_groups,
    read_node,
)
from forwarder.testing.samples import event_of

SECOND_US = 1_000_000
NOON = 1_790_000_000


class Rig:
    """A simulated account, whose clock stands at noon, and its source."""

    def __init__(self, simulator: Simulator, **config: Any) -> None:
        self.simulator = simulator
        self._config = config
        self._plugins: list[CloudflareAccess] = []
        self.source = self.new_source()

    def new_source(self) -> Source:
        config = CloudflareAccess.Config.model_validate(
            {
                "account_id": DEFAULT_ACCOUNT,
                "api_token": DEFAULT_TOKEN,
                "api_url": self.simulator.url,
                # Without a budget nothing waits: the simulator's is what is tried.
                "rate_limit": "off",
                "streams": {NON_IDENTITY_LOGINS: self._config},
            }
        )
        clock = SystemClock()
        plugin = CloudflareAccess(config, SourceContext(clock, CloudflareAccess.share(clock, None)))
        self._plugins.append(plugin)
        return plugin.streams()[NON_IDENTITY_LOGINS].source

    def add(self, count: int, ago: int = 60, **dimensions: Any) -> None:
        """Add logins of one second."""
        for number in range(count):
            row = {
                "datetime": format_us((NOON - ago) * SECOND_US),
                "cfRayId": f"{ago:08x}{number:08x}",
                "identityProvider": "nonidentity",
                "isSuccessfulLogin": 1,
            }
            self.simulator.add(DEFAULT_ACCOUNT, NON_IDENTITY_LOGINS, row | dimensions)

    async def read(self, ago: int = 600, until: int = 0) -> list[Page]:
        """Read the window from so many seconds before noon until so many."""
        window = Window((NOON - ago) * SECOND_US, (NOON - until) * SECOND_US)
        position, pages = None, list[Page]()
        while not pages or position is not None:
            pages.append(await self.source.fetch(window, position))
            position = orjson.loads(orjson.dumps(pages[-1].position))
        return pages

    def queries(self) -> int:
        """Return how many queries were sent."""
        return self.simulator.requests.counts[NON_IDENTITY_LOGINS]

    async def aclose(self) -> None:
        for plugin in self._plugins:
            await plugin.aclose()


@pytest.fixture
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    clock = ManualClock(NOON)
    settings = SimulatorSettings(rate=0, scim_rate=0, history=60, retention=1e9)
    async with Simulator(settings, clock=clock) as simulator:
        made_rig = Rig(simulator, **getattr(request, "param", {}))
        yield made_rig
        await made_rig.aclose()


def rows(pages: list[Page]) -> list[dict[str, Any]]:
    return [orjson.loads(record.row) for page in pages for record in page.records]


def lost(pages: list[Page]) -> list[str]:
    return [one.reason for page in pages for one in page.lost]


async def test_a_quiet_window_costs_one_query_once_the_plan_is_known(rig: Rig) -> None:
    rig.add(5)
    await rig.read()
    before = rig.queries()

    assert len(rows(await rig.read())) == 5
    assert rig.queries() - before == 1


async def test_people_are_not_asked_for(rig: Rig) -> None:
    rig.add(1, identityProvider="okta", userUuid="b4bf51f2-c72b-50b1-a179-20b76a49b18b")
    rig.add(1, ago=50)

    (row,) = rows(await rig.read())
    assert row["identityProvider"] == "nonidentity"


async def test_a_row_says_how_many_logins_it_stands_for(rig: Rig) -> None:
    rig.add(3, cfRayId="")

    (row,) = rows(await rig.read())
    login = event_of(NON_IDENTITY_LOGINS, row)
    assert isinstance(login, Login)
    assert (login.login_count, login.sample_interval) == (3, 1)
    assert login.message.endswith("(3 times)")


async def test_what_is_sampled_says_so(rig: Rig) -> None:
    rig.add(400)
    rig.simulator.faults.add(Fault("sampled", count=10, times=None))

    found = rows(await rig.read())
    assert 0 < len(found) < 100
    assert {(row["count"], row["sampleInterval"]) for row in found} == {(10, 10)}


@pytest.mark.parametrize("rig", [{"page_size": 10}], indirect=True)
async def test_time_is_halved_while_an_answer_is_full(rig: Rig) -> None:
    for ago in range(1, 65):
        rig.add(3, ago=ago)

    pages = await rig.read()
    assert len(rows(pages)) == 64 * 3
    assert lost(pages) == []


@pytest.mark.parametrize("rig", [{"page_size": 10}], indirect=True)
async def test_more_than_an_answer_holds_in_one_second_is_a_gap_of_that_second(rig: Rig) -> None:
    rig.add(4, ago=31)
    rig.add(15, ago=30)
    rig.add(4, ago=29)

    pages = await rig.read()
    assert len(rows(pages)) == 4 + 10 + 4
    (gap,) = [one for page in pages for one in page.lost]
    assert gap.reason == "instant_unreadable"
    assert (gap.since_us, gap.until_us) == ((NOON - 30) * SECOND_US, (NOON - 29) * SECOND_US)
    assert "one second" in gap.detail


async def test_a_group_whose_count_has_grown_is_the_same_row(rig: Rig) -> None:
    rig.add(3)
    first = [record.identity for page in await rig.read() for record in page.records]
    rig.simulator.faults.add(Fault("amend", count=2))

    pages = await rig.read()
    assert sorted(row["count"] for row in rows(pages)) == [1, 2, 2]
    assert sorted(first) == sorted(record.identity for page in pages for record in page.records)
    assert sum(page.amended for page in pages) == 2


async def test_a_late_login_is_a_new_row(rig: Rig) -> None:
    rig.add(1)
    before = rows(await rig.read())
    rig.add(1, ago=61)

    assert len(before) == 1
    assert len(rows(await rig.read())) == 2


async def test_an_error_in_an_answer_of_status_200_is_no_empty_answer(rig: Rig) -> None:
    rig.add(2)
    body = b'{"data":null,"errors":[{"message":"unable to execute query, please try again later"}]}'
    await rig.read()
    rig.simulator.faults.add(Fault("body", status=200, body=body.decode()))

    with pytest.raises(TransientError):
        await rig.read()
    assert len(rows(await rig.read())) == 2


async def test_errors_beside_rows_are_errors_too(rig: Rig) -> None:
    node = "accessLoginRequestsAdaptiveGroups"
    body = (
        f'{{"data":{{"viewer":{{"accounts":[{{"{node}":[]}}]}}}},'
        '"errors":[{"message":"internal server error"}]}'
    )
    await rig.read()
    rig.simulator.faults.add(Fault("body", status=200, body=body))

    with pytest.raises(TransientError):
        await rig.read()


@pytest.mark.parametrize(
    "words", ["limit reached, please try reduced time period", "query time range is too large"]
)
async def test_a_query_that_is_too_much_work_is_asked_in_halves(rig: Rig, words: str) -> None:
    rig.add(3)
    await rig.read()
    body = orjson.dumps({"data": None, "errors": [{"message": words}]}).decode()
    rig.simulator.faults.add(Fault("body", status=400, body=body, times=2))

    assert len(rows(await rig.read())) == 3


async def test_a_dimension_that_the_plan_lacks_is_not_asked_for(rig: Rig) -> None:
    rig.add(2)
    rig.simulator.faults.add(Fault("lacking", key="deviceId", times=None))

    found = rows(await rig.read())
    assert len(found) == 2
    assert not any("deviceId" in row for row in found)


async def test_a_plan_that_changes_is_asked_for_again(rig: Rig) -> None:
    rig.add(2)
    await rig.read()
    rig.simulator.faults.add(Fault("lacking", key="deviceId", times=None))

    with pytest.raises(RequestRefusedError) as refused:
        await rig.read()
    assert refused.value.about == "parameters"
    assert len(rows(await rig.read())) == 2


async def test_rows_with_one_more_dimension_are_known_by_those_they_had(rig: Rig) -> None:
    rig.add(2)
    fault = Fault("lacking", key="deviceId", times=None)
    rig.simulator.faults.add(fault)
    (before,) = [page for page in await rig.read() if page.records]
    rig.simulator.faults.remove("lacking")
    rig.source = rig.new_source()

    (after,) = [page for page in await rig.read() if page.records]
    known = before.records[0].keys
    assert {record.identity for record in before.records} == {
        after.project(i, known) for i in (0, 1)
    }


async def test_a_token_without_the_permission_is_for_a_person(rig: Rig) -> None:
    rig.simulator.admit(Token(DEFAULT_TOKEN, permissions=frozenset({ACCESS_REQUESTS})))

    with pytest.raises(RequestRefusedError) as refused:
        await rig.read()
    assert refused.value.about == "permission"
    assert "Account Analytics Read" in refused.value.hint


async def test_a_plan_without_these_analytics_is_for_a_person(rig: Rig) -> None:
    node = "accessLoginRequestsAdaptiveGroups"
    told = {"data": {"viewer": {"accounts": [{"settings": {node: {"enabled": False}}}]}}}
    rig.simulator.faults.add(Fault("body", status=200, body=orjson.dumps(told).decode()))

    with pytest.raises(NeedsOperatorError):
        await rig.read()


async def test_what_is_older_than_the_plan_shows_is_a_gap_and_the_rest_is_read(rig: Rig) -> None:
    rig.add(2, ago=89 * 86_400)

    pages = await rig.read(ago=91 * 86_400, until=89 * 86_400 - 1)
    assert lost(pages) == ["older_than_retention"]
    assert len(rows(pages)) == 2


async def test_a_window_before_all_that_the_plan_shows_has_an_end(rig: Rig) -> None:
    pages = await rig.read(ago=99 * 86_400, until=98 * 86_400)

    assert (len(pages), lost(pages)) == (1, ["older_than_retention"])


async def test_an_answer_with_another_date_makes_nothing_old(rig: Rig) -> None:
    """No query would follow it, and so nothing that corrects it."""
    rig.add(2)
    await rig.read(ago=700, until=650)
    rig.simulator.faults.add(Fault("clock_skew", seconds=1e9))

    wrong, right = await rig.read(ago=650, until=601), await rig.read()
    assert lost(wrong) + lost(right) == []
    assert len(rows(right)) == 2


async def test_queries_have_a_budget_of_their_own() -> None:
    settings = SimulatorSettings(
        rate=0, scim_rate=0, policy=RatePolicy(requests=5), query_policy=RatePolicy(requests=2)
    )
    async with Simulator(settings, clock=ManualClock(NOON)) as simulator:
        rig = Rig(simulator)
        await rig.read(ago=60)
        with pytest.raises(ThrottledError):
            await rig.read(ago=60)
        # Queries that are refused hold no request back.
        async with asyncio.timeout(10):
            assert await rig.source.server_time_us() == NOON * SECOND_US
        await rig.aclose()


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=120), st.integers(1, 12), st.integers(1, 99)
)
def test_each_second_is_read_once_whole_or_is_lost(
    counts: list[int], most: int, width: int
) -> None:
    """The law of the walk, on seconds with ``counts`` of groups."""
    end, here, read, queries = len(counts), Slice(0, width), list[int](), 0
    following: Slice | None = here
    while following is not None:
        here = Slice(following.since, min(following.width, end - following.since))
        rows_here = min(most, sum(counts[here.since : here.since + here.width]))
        following, counted = advance(here, end, rows=rows_here, most=most)
        queries += 1
        if counted:
            read += range(here.since, here.since + here.width)
            assert rows_here < most or here.width == 1

    assert read == list(range(end))
    assert queries <= 16 * end + 16


def test_a_query_asks_for_no_more_fields_than_the_plan_allows() -> None:
    node = Node(10, 60, 60, frozenset({"dimensions_datetime", "dimensions_appId"}), 30)
    few = Node(10, 60, 60, frozenset(), 5)
    least = Node(10, 60, 60, frozenset(), 2)

    assert node.selection == "count dimensions{datetime appId}"
    assert few.selection == "count avg{sampleInterval} dimensions{datetime cfRayId appId}"
    # A query without any dimension is none.
    assert least.selection == "count avg{sampleInterval} dimensions{datetime}"


@pytest.mark.parametrize("said", [5, "dimensions_datetime", {"a": 1}, None, [None, 7]])
def test_fields_that_are_no_list_of_names_say_nothing(said: Any) -> None:
    told = {"accessLoginRequestsAdaptiveGroups": {"enabled": True, "availableFields": said}}
    body = orjson.dumps({"data": {"viewer": {"accounts": [{"settings": told}]}}})

    assert read_node(Response(200, {}, body), ENDPOINT, 0).fields == frozenset()


_GROUP = b'{"count":1,"dimensions":{"datetime":"2026-01-01T00:00:00Z",%b}}'


def _groups(*rows: bytes) -> bytes:
    node = b'{"accessLoginRequestsAdaptiveGroups":[%b]}' % b",".join(rows)
    return b'{"data":{"viewer":{"accounts":[%b]}},"errors":null}' % node


@pytest.mark.parametrize(
    "more", [b'"a":%b' % (b"9" * 30), b'"a":1,"a":2', b'"a":%b%b' % (b"[" * 300, b"]" * 300)]
)
def test_a_group_that_would_be_changed_silently_is_a_malformed_row(more: bytes) -> None:
    body = _groups(_GROUP % b'"a":0', _GROUP % more)

    answer = read_groups(Response(200, {}, body), ENDPOINT, 0)

    assert answer.malformed == 1
    assert [MALFORMED_KEY in row for row in answer.rows] == [False, True]


@pytest.mark.parametrize("body", [b"error code: 1015", b"<html>slow down</html>", b""])
def test_an_error_of_http_says_more_than_its_page(body: bytes) -> None:
    with pytest.raises(ThrottledError) as throttled:
        read_groups(Response(429, {"retry-after": "30"}, body), ENDPOINT, 0)
    with pytest.raises(RequestRefusedError) as refused:
        read_groups(Response(403, {}, body), ENDPOINT, 0)

    assert throttled.value.retry_after == 30
    assert refused.value.about == "permission"
