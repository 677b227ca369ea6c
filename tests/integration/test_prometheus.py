"""The real promtool judges the rules; the real Prometheus sees every provoked fault."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from forwarder.simulator import Fault, Simulator, SimulatorSettings, Token
from forwarder.testing.network import free_port
from tests.integration.conftest import Start
from tests.integration.prometheus.daemons import Daemon
from tests.integration.prometheus.server import RULES, Prometheus, prometheus, tool

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

DASHBOARD = RULES.parent / "grafana/dashboard.json"
ALERTS = {
    rule["alert"]: rule["expr"]
    for group in yaml.safe_load((RULES / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
}
HASTE = {
    r"(seconds >|seconds <=) (600|900|1800)$": r"\1 3",
    r"(seconds >|seconds <=) (600|900|1800)(?=\D)": r"\1 3",
    r"throttled:ratio5m > 0.5": "throttled:ratio5m > 0.02",
    r"> 8000": "> 3",
    r"fill:ratio > 0.2": "fill:ratio > 0.01",
}
"""Minutes become seconds, 8000 dead letters 3, and a fifth of a journal a hundredth."""
NOT_PROVOKED = {
    "ForwarderTaskCrashing": "it needs a bug in the forwarder itself",
    "ForwarderDegraded": "it needs an outage of minutes, which no query makes shorter",
    "ForwarderMissing": "it needs a target that Prometheus no longer has",
    "ForwarderTokenExpires": "it needs a token near its end",
    "ForwarderTokenExpiresSoon": "it needs a token near its end",
    "ForwarderCertificateExpires": "it needs a certificate near its end",
    "ForwarderCertificateExpiresSoon": "it needs a certificate near its end",
    "ForwarderFreshnessBurnsFast": "it needs an hour before the fault",
    "ForwarderFreshnessBurnsSlowly": "it needs an hour before the fault",
    "ForwarderDeliveryBurnsFast": "it needs an hour before the fault",
    "ForwarderDeliveryBurnsSlowly": "it needs an hour before the fault",
    "ForwarderRestarting": "it needs four restarts of one daemon",
    "ForwarderLogpushFailing": "it needs pushes that are refused for an hour",
    "ForwarderLogpushSilent": "it needs twelve hours after a push",
    "ForwarderJournalSlow": "it needs a slow disk",
    "ForwarderShardWithoutOwner": "it needs replicas on a database",
    "ForwarderShardWithTwoOwners": "it needs replicas on a database",
    "ForwarderShardFlapping": "it needs replicas on a database",
}
ACCOUNT = SimulatorSettings().accounts[0]
BLIND = "token-without-permissions"
PATIENCE = 180.0


def hasty(expression: str) -> str:
    for pattern, short in HASTE.items():
        expression = re.sub(pattern, short, expression, flags=re.MULTILINE)
    return expression


def account(simulator: Simulator, **settings: Any) -> dict[str, Any]:
    stream = {"poll_interval": "1s", "start_from": "10m"} | settings.pop("stream", {})
    return {
        "account_id": ACCOUNT,
        "name": "acme",
        "api_url": simulator.url,
        "api_token": "simulated-token",
        "streams": {"access_requests": stream},
    } | settings


def dead(**settings: Any) -> dict[str, Any]:
    """A sink whose destination never listens."""
    url = f"http://127.0.0.1:{free_port()}"
    return {"type": "splunk_hec", "format": "raw", "url": url, "token": "t"} | settings


@asynccontextmanager
async def refusing() -> AsyncIterator[str]:
    """A destination that takes no event."""

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=400, text="no event of yours")

    app = web.Application()
    app.router.add_route("*", "/", refuse)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def expect(server: Prometheus, *alerts: str) -> None:
    """Wait until the expression of every alert returns data."""
    await answered(server, {alert: hasty(ALERTS[alert]) for alert in alerts})


async def answered(server: Prometheus, expressions: dict[str, str]) -> None:
    """Wait until every expression returns data; name those that never do."""
    missing, until = dict(expressions), time.monotonic() + PATIENCE
    while missing and time.monotonic() < until:
        for name, expression in tuple(missing.items()):
            if await server.query(expression):
                del missing[name]
        await asyncio.sleep(0.5)
    assert missing == {}


@pytest.fixture(scope="module")
def promtool(start: Start[str]) -> Iterator[str]:
    yield from start("promtool", lambda: nullcontext(tool("promtool")))


def judged(promtool: str, *arguments: str | Path) -> str:
    ran = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_promtool_takes_the_rules(promtool: str) -> None:
    said = judged(promtool, "check", "rules", RULES / "recording.yaml", RULES / "alerts.yaml")

    assert f"SUCCESS: {len(ALERTS)} rules found" in said


def test_the_unit_tests_of_the_alerts_pass(promtool: str) -> None:
    """Both files at once: promtool uses one core."""
    files = (RULES / "alerts_test.yaml", RULES / "alerts_days_test.yaml")
    with ThreadPoolExecutor() as pool:
        said = list(pool.map(partial(judged, promtool, "test", "rules"), files))

    assert [text.count("SUCCESS") for text in said] == [1, 1]


def test_promtool_takes_the_settings_of_compose(promtool: str, tmp_path: Path) -> None:
    settings = tmp_path / "prometheus.yml"
    settings.write_text((RULES.parent / "compose/prometheus.yaml").read_text())
    (tmp_path / "rules").mkdir()

    judged(promtool, "check", "config", settings)


def troubled(cloud: Simulator, url: str) -> dict[str, Any]:
    """Late, odd and new rows; one sink without a destination, one that is refused."""
    sinks = {"dead": dead(), "refused": {"type": "http", "format": "raw", "url": url}}
    reading = account(cloud, stream={"overlap": "6h"}, retention="30d")
    return {"accounts": [reading], "sinks": sinks}


def throttled(cloud: Simulator) -> dict[str, Any]:
    """More to read than the budget allows, near the end of the retention."""
    budget = {"requests": 2, "per": "10s", "share": 1.0}
    reading = account(cloud, stream={"page_size": 50}, retention="2h", rate_limit=budget)
    return {"accounts": [reading], "sinks": {"nowhere": {"type": "null", "format": "raw"}}}


def blind(cloud: Simulator) -> dict[str, Any]:
    """A token without permissions."""
    reading = account(cloud, api_token=BLIND)
    return {"accounts": [reading], "sinks": {"nowhere": {"type": "null", "format": "raw"}}}


def healthy(cloud: Simulator) -> dict[str, Any]:
    """Nothing is wrong."""
    sinks = {"nowhere": {"type": "null", "format": "raw"}}
    return {"accounts": [account(cloud)], "sinks": sinks}


def small(cloud: Simulator, sinks: dict[str, Any], size: str = "1MiB") -> dict[str, Any]:
    """The smallest journal there is, full at once; or one that takes minutes to fill."""
    return {"accounts": [account(cloud)], "sinks": sinks, "journal": {"max_size": size}}


async def faults_of_running_daemons(
    server: Prometheus, cloud: Simulator, daemons: dict[str, Daemon]
) -> tuple[str, ...]:
    """Provoke what a daemon shows while it runs; return the alerts that were seen."""
    await answered(server, {"rows": 'forwarder_rows_new_total{job="troubled"} > 0'})
    cloud.faults.add(Fault("unreadable", count=2, stream="access_requests"))
    cloud.faults.add(Fault("new_key", stream="access_requests", after=3))
    row = cloud.shown(ACCOUNT, "access_requests")[-1]
    moment = datetime.now(UTC) - timedelta(hours=5)
    late = {**row, "ray_id": "1" * 16, "created_at": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}
    cloud.add(ACCOUNT, "access_requests", late)
    daemons["troubled"].reload("sinks: []")
    seen = (
        *("ForwarderSettingsRefused", "ForwarderNotReady", "ForwarderStreamHeld"),
        *("ForwarderRetentionNear", "ForwarderRetentionCritical", "ForwarderBudgetThrottled"),
        *("ForwarderLateRows", "ForwarderMalformedRows", "ForwarderRowsReshaped"),
        *("ForwarderSinkHeld", "ForwarderSinkNotDelivering", "ForwarderSinkBehind"),
        *("ForwarderDeadLetters", "ForwarderDeadLettersKept"),
        "ForwarderDeadLettersNearlyFull",
        *("ForwarderBackpressure", "ForwarderJournalNearlyFull", "ForwarderJournalFilling"),
        *("ForwarderSinkDropping", "ForwarderGap"),
    )
    await expect(server, *seen)
    return seen


async def faults_of_a_cloud_that_is_gone(server: Prometheus, cloud: Simulator) -> tuple[str, ...]:
    """Stop Cloudflare; return the alerts that were seen."""
    cloud.faults.add(Fault("error", status=503, times=None))
    seen = ("ForwarderApiErrors", "ForwarderNoPollSuccess", "ForwarderStreamBehind")
    await expect(server, *seen)
    return seen


async def nothing_is_said_of(server: Prometheus, job: str) -> None:
    """Find no alert that lasts, in haste or not, for a daemon that was scraped all the time.

    On a busy machine three seconds can pass before a row is read, but not again and again.
    """
    await answered(server, {"rows": f'forwarder_rows_new_total{{job="{job}"}} > 0'})
    asked, until = {*ALERTS.values(), *map(hasty, ALERTS.values())}, time.monotonic() + PATIENCE
    while asked and time.monotonic() < until:
        asked = {expression for expression in asked if await names(server, job, expression)}
        await asyncio.sleep(0.5)
    assert asked == set()


async def names(server: Prometheus, job: str, expression: str) -> bool:
    """Tell whether an expression returns data of ``job``."""
    return job in [labels.get("job") for labels in await server.query(expression)]


async def every_query_of_the_dashboard_is_taken(server: Prometheus) -> None:
    """Ask all of them as Grafana would, all variables at their widest."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    for panel in panels:
        for target in panel.get("targets", ()):
            await server.query(re.sub(r"\$\w+", ".*", target["expr"]))


def entered(stack: AsyncExitStack, server: Any) -> AbstractContextManager[Prometheus]:
    """Return a server that the stack ends."""
    return nullcontext(stack.enter_context(server))


async def test_every_alert_finds_its_fault(start: Start[Prometheus], tmp_path: Path) -> None:
    """Six daemons in trouble and a healthy one: every alert finds the former, none the latter."""
    tokens = (Token("simulated-token"), Token(BLIND, permissions=frozenset()))
    traffic = SimulatorSettings(rate=20.0, history=120.0, tokens=tokens, policy=None)
    async with AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(Simulator(traffic))
        busy = await stack.enter_async_context(
            Simulator(SimulatorSettings(rate=60.0, history=540.0, policy=None))
        )
        url = await stack.enter_async_context(refusing())
        daemons = {
            "troubled": Daemon(tmp_path / "troubled", troubled(cloud, url)),
            "healthy": Daemon(tmp_path / "healthy", healthy(busy)),
            "throttled": Daemon(tmp_path / "throttled", throttled(busy)),
            "blind": Daemon(tmp_path / "blind", blind(cloud)),
            "filling": Daemon(tmp_path / "filling", small(busy, {"dead": dead()}, "16MiB")),
            "full": Daemon(tmp_path / "full", small(busy, {"dead": dead()})),
            "lossy": Daemon(
                tmp_path / "lossy", small(busy, {"dead": dead(when_full="drop_oldest")})
            ),
        }
        for daemon in daemons.values():
            stack.callback(daemon.stop)
            daemon.start()
        ports = {name: daemon.port for name, daemon in daemons.items()}
        (server,) = start("Prometheus", lambda: entered(stack, prometheus(tmp_path, ports)))
        await server.ready()
        found = set(await faults_of_running_daemons(server, cloud, daemons))
        await every_query_of_the_dashboard_is_taken(server)
        await nothing_is_said_of(server, "healthy")
        found |= set(await faults_of_a_cloud_that_is_gone(server, cloud))
        await asyncio.to_thread(daemons["troubled"].stop)
        await expect(server, "ForwarderDown")

    assert found | {"ForwarderDown"} | NOT_PROVOKED.keys() == ALERTS.keys()
