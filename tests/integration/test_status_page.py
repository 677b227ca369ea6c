"""The status page in a real browser: quiet, self-contained, and usable by everybody.

With ``PAGE_PICTURES=FOLDER`` the pictures are kept. That of the README is by `make pictures`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from forwarder.admin.server import AdminServer
from tests.admin.conftest import FakeDaemon
from tests.integration.chromium.browser import Browser, chromium
from tests.integration.chromium.page import Page, tab
from tests.integration.chromium.state import ATTACK, history, state
from tests.integration.conftest import Start

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]"
_BLOCKING = (
    "performance.getEntriesByType('resource').filter((one) => one.initiatorType !== 'fetch').length"
)
_DRAWN = (
    "document.querySelectorAll('#chart-backlog path').length && document.querySelector('#gaps td')"
)
_FOCUSABLE = "document.querySelectorAll('a[href], button, input, summary, [tabindex=\"0\"]').length"
_FOCUSED = """(() => {
  const at = document.activeElement;
  const box = at.getBoundingClientRect();
  return at === document.body ? null : at.outerHTML.slice(0, 80) + box.top.toFixed(0);
})()"""


@pytest.fixture(scope="module")
def browser(start: Start[Browser], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    yield from start("chromium", partial(chromium, tmp_path_factory.mktemp("chromium")))


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A tab with the page of a daemon in some trouble, drawn to its end."""
    server = AdminServer(FakeDaemon(state=state(), past=history()))
    url = await server.start("127.0.0.1", 0)
    async with tab(browser.port) as opened:
        await opened.width(1280)
        await opened.open(url)
        await opened.until(_DRAWN)
        yield opened
    await server.aclose()


async def test_it_paints_and_has_loaded_nothing_that_could_hold_it_up(page: Page) -> None:
    await page.until(_PAINT)

    milliseconds = await page.value(f"{_PAINT}.startTime")
    print(f"first contentful paint after {milliseconds:.0f} ms")  # noqa: T201 - a figure to report
    assert await page.value(_BLOCKING) == 0


async def test_it_asks_nobody_but_the_daemon_and_its_console_stays_empty(page: Page) -> None:
    origin = await page.value("location.origin")
    async with asyncio.timeout(60):
        while page.requests.count(origin + "/status") < 2:  # noqa: ASYNC110 - another task counts
            await asyncio.sleep(0.1)

    paths = [url.removeprefix(origin) for url in page.requests if not url.startswith("data:")]
    assert set(paths) == {"/", "/status", "/history"}
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
async def test_axe_finds_no_violation(
    page: Page, browser: Browser, scheme: str, width: int, tmp_path: Path
) -> None:
    await page.colours(scheme)
    await page.width(width)
    await page.value(browser.axe + ";0")
    found: list[dict[str, Any]] = await page.value("axe.run().then((found) => found.violations)")
    shots = Path(os.environ.get("PAGE_PICTURES", tmp_path))
    (shots / f"status-{scheme}-{width}.png").write_bytes(await page.picture())

    told = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
    assert told == [], json.dumps(told, indent=1)


async def test_tab_reaches_everything_that_can_be_used(page: Page) -> None:
    wanted = await page.value(_FOCUSABLE)
    reached = set()
    for _ in range(wanted + 1):
        await page.press("Tab")
        reached.add(await page.value(_FOCUSED))

    assert wanted > 8
    assert len(reached - {None}) == wanted


async def test_texts_of_others_are_shown_as_texts(page: Page) -> None:
    assert await page.value("document.querySelectorAll('img, td script').length") == 0
    assert ATTACK in await page.value("document.getElementById('streams').textContent")
    assert ATTACK in await page.value("document.getElementById('letters').textContent")


async def test_every_chart_says_in_words_what_it_draws(page: Page) -> None:
    labels = await page.value(
        "[...document.querySelectorAll('svg[role=img]')].map((one) => one.ariaLabel)"
    )

    assert len(labels) == 4
    assert "elastic: now 180K, highest 180K" in next(one for one in labels if "Backlog" in one)


async def test_it_says_when_the_daemon_does_not_answer(browser: Browser) -> None:
    server = AdminServer(FakeDaemon(state=state(), past=history()))
    url = await server.start("127.0.0.1", 0)
    async with tab(browser.port) as opened:
        await opened.open(url)
        await opened.until(_DRAWN)
        await server.aclose()
        await opened.until("document.getElementById('state').textContent === 'No answer'")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_degraded_daemon_is_called_so_with_its_reasons(
    browser: Browser, scheme: str
) -> None:
    reasons = ["sink qradar has taken nothing for 13 min: connection refused"]
    degraded = {**state(), "ready": True, "state": "degraded", "reasons": reasons}
    server = AdminServer(FakeDaemon(state=degraded, past=history()))
    url = await server.start("127.0.0.1", 0)
    async with tab(browser.port) as opened:
        await opened.colours(scheme)
        await opened.open(url)
        await opened.until(_DRAWN)
        badge = await opened.value("document.getElementById('state').textContent")
        told = await opened.value("document.getElementById('reasons').textContent")
        await opened.value(browser.axe + ";0")
        violations = await opened.value(
            "axe.run().then((found) => found.violations.map((one) => one.id))"
        )
    await server.aclose()

    assert (badge, told) == ("Degraded", reasons[0])
    assert violations == []


async def test_what_needs_a_person_comes_first_with_the_command_to_run(page: Page) -> None:
    first = "document.querySelector('#sinks tbody tr').textContent"
    below = "document.querySelector('#sinks .below code').textContent"
    order = "document.getElementById('sinks').compareDocumentPosition"

    assert "elastic" in await page.value(first)
    assert await page.value(below) == "forwarder dead-letters list --sink elastic"
    assert await page.value(f"{order}(document.getElementById('charts'))") == 4  # it follows


async def test_it_shows_which_replica_owns_what_and_which_is_lost(page: Page) -> None:
    rows = "[...document.querySelectorAll('#fleet tbody tr')].map((row) => row.innerText)"
    links = "[...document.querySelectorAll('#fleet a')].map((one) => one.href)"
    lost, me, other = [row.split("\t") for row in await page.value(rows)]
    told = await page.value("document.getElementById('fleet').textContent")

    assert (f"forwarder-2:1 {ATTACK}", "lost", "5.2 min ago") == (lost[0], lost[1], lost[4])
    assert ("forwarder-0:1 (this one)", "works", "0", "1.4.0") == (*me[:3], me[5])
    assert ("forwarder-1:1", "stands by", "", "") == (*other[:4],)
    assert "Nobody owns shard 1" in told
    assert "owns shard 0 of 2" in told
    assert ["http://10.0.0.7:9090/"] * 2 == await page.value(links)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"shards": [{"shard": 0, "owner": "other:7", "epoch": 1, "since": ""}]}, "takes over"),
        (
            {"shards": [], "replicas": [], "lost_replicas": [], "older_replicas": ["old:7"]},
            "older release have stopped: old:7",
        ),
    ],
)
async def test_a_standby_is_called_so(browser: Browser, changed: dict[str, Any], told: str) -> None:
    standby = {**state(), "ready": True, "state": "ready", "reasons": [], **changed}
    server = AdminServer(FakeDaemon(state=standby, past=history()))
    url = await server.start("127.0.0.1", 0)
    async with tab(browser.port) as opened:
        await opened.open(url)
        await opened.until(_DRAWN)
        badge = await opened.value("document.getElementById('state').textContent")
        shown = await opened.value("document.getElementById('fleet').textContent")
    await server.aclose()

    assert "Standing by" == badge
    assert told in shown


async def test_a_journal_that_nobody_shares_has_no_replicas(browser: Browser) -> None:
    alone = state() | {"shards": [], "replicas": [], "lost_replicas": []}
    server = AdminServer(FakeDaemon(state=alone, past=history()))
    url = await server.start("127.0.0.1", 0)
    async with tab(browser.port) as opened:
        await opened.open(url)
        await opened.until(_DRAWN)
        hidden = await opened.value("document.getElementById('fleet-section').hidden")
        complaints = opened.complaints
    await server.aclose()

    assert (True, []) == (hidden, complaints)


async def test_troubles_lead_to_the_runbook_and_the_log_is_at_hand(
    page: Page, browser: Browser
) -> None:
    link = "document.querySelector('#sinks .below a').getAttribute('href')"
    log = "document.querySelector('#log tbody').textContent"
    budget = "document.querySelector('#summary').textContent"

    assert await page.value(link) == "runbook#forwardersinkheld"
    assert (await page.value(log)).index("poll_failed") < (await page.value(log)).index("sink_held")
    assert ATTACK in await page.value(log)
    assert "Request budget640 left" in await page.value(budget)
    await page.open(await page.value("location.origin") + "/runbook#forwardersinkheld")
    await page.until("location.pathname === '/runbook' && document.querySelector('h2')")
    assert await page.value(
        "document.querySelector(location.hash).getBoundingClientRect().top < 50"
    )
    await page.value(browser.axe + ";0")
    found = await page.value("axe.run().then((found) => found.violations.map((one) => one.id))")
    assert found == []
    assert page.complaints == []


async def test_a_narrow_page_scrolls_in_one_direction_only(page: Page) -> None:
    await page.width(400)

    wide = "[...document.querySelectorAll('*')].filter((one) => one.scrollWidth > 400)"
    await page.until(f"{wide}.length === 0")  # charts are redrawn a moment later


async def test_pointing_at_a_chart_shows_the_values_of_that_time(page: Page) -> None:
    heading = "document.querySelector('#chart-backlog th.number').textContent"
    value = "document.querySelectorAll('#chart-backlog tbody tr')[2].children[1].textContent"
    plot = "document.querySelector('#chart-backlog svg.plot')"
    point = (
        f"{plot}.dispatchEvent(new PointerEvent('pointermove', {{ clientX:"
        f" {plot}.getBoundingClientRect().left + {plot}.clientWidth * 0.8 }}))"
    )
    before = await page.value(heading), await page.value(value)

    await page.value(point)
    pointed = await page.value(heading), await page.value(value)

    assert before == ("now", "180K")
    assert pointed[0].count(":") == 1
    assert pointed[1] not in (before[1], "")


async def test_the_charts_of_a_young_daemon_and_after_a_burst_can_be_read(browser: Browser) -> None:
    past = history()
    past = {**past, "times": past["times"][-49:]}
    for group in ("streams", "sinks"):
        past[group] = {
            name: {key: [90_000.0, *values[-48:]] for key, values in measures.items()}
            for name, measures in past[group].items()
        }
    server = AdminServer(FakeDaemon(state=state(), past=past))
    url = await server.start("127.0.0.1", 0)
    async with tab(browser.port) as opened:
        await opened.width(1280)
        await opened.open(url)
        await opened.until(_DRAWN)
        box = "document.querySelector('#chart-new path').getBBox()"
        left = await opened.value(f"{box}.x")
        ticks = await opened.value("document.querySelector('#chart-new svg').textContent")
        highest = await opened.value("document.querySelector('#chart-new tbody').textContent")
    await server.aclose()

    assert left < 60  # twelve minutes fill the width
    assert "90K" not in ticks
    assert "90K" in highest
