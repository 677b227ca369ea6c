"""Partitions and resets between the daemon, the API and every sink: nothing is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest

from forwarder.testing.network import ToxicProxy
from tests.end_to_end.processes import until
from tests.proof.auditing import audited
from tests.proof.destinations import HecBook
from tests.proof.ledger import Ledger
from tests.proof.sinks import Five, five, hec
from tests.proof.site import Site, account, missing, site

OPTIONS = ("--rate", "30", "--scim-rate", "3", "--history", "10m")
POLL, CAP = 1.0, 30.0
BOUND = 2 * POLL + CAP + 3.0
TIMEOUT = "5s"


class Lines:
    """A proxy on each connection of the daemon."""

    def __init__(self, stack: ExitStack, sinks: Five, api: str) -> None:
        ports = {
            "api": urlsplit(api).port or 0,
            "hec": urlsplit(sinks.hec.url).port or 0,
            "bulk": urlsplit(sinks.bulk.url).port or 0,
            "relp": sinks.relp.port,
            "syslog": sinks.syslog.port,
        }
        self.proxies = {n: stack.enter_context(ToxicProxy(port)) for n, port in ports.items()}

    def lead(self, daemon: Site, sinks: Five) -> None:
        """Point the daemon's settings at the proxies."""
        ports = {name: proxy.port for name, proxy in self.proxies.items()}
        settings = sinks.settings()
        for name in ("hec", "bulk"):
            settings[name] |= {"url": f"http://127.0.0.1:{ports[name]}"}
        for name in ("relp", "syslog"):
            settings[name] |= {"port": ports[name]}
        for one in settings.values():
            one["timeout"] = TIMEOUT
        daemon.settings["sinks"] = settings
        daemon.settings["accounts"] = [account(f"http://127.0.0.1:{ports['api']}/client/v4")]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def strike(proxy: ToxicProxy, how: str) -> None:
    """Break a line; ``heal`` repairs it."""
    match how:
        case "reset":
            proxy.reset()
        case "refused":
            proxy.refuse()
        case "black hole":
            proxy.swallow = True


def heal(proxy: ToxicProxy) -> None:
    """Let bytes through again; what hung in a black hole is broken off, as a router would."""
    if proxy.swallow:
        proxy.swallow = False
        proxy.reset()
    proxy.accept()


@pytest.mark.timeout(600)
async def test_nothing_is_lost_over_partitions_and_resets(
    tmp_path: Path, ledger: Ledger, stack: ExitStack, *, long: bool
) -> None:
    rng, rounds = Random(6), 60 if long else 6
    async with five(tmp_path) as sinks, site(tmp_path, {}, *OPTIONS) as daemon:
        lines = Lines(stack, sinks, daemon.api.url)
        lines.lead(daemon, sinks)
        await daemon.start()
        await until(lambda: sinks.hec.book.arrived)
        waits: dict[str, list[float]] = {"reset": [], "refused": [], "black hole": []}
        shown = await daemon.shown()
        for number in range(rounds):
            how = list(waits)[number % 3]
            struck = rng.sample(list(lines.proxies), rng.randint(1, 5))
            for name in struck:
                strike(lines.proxies[name], how)
            await asyncio.sleep(rng.uniform(2, 8))
            for name in struck:
                heal(lines.proxies[name])
            shown, recovery = await daemon.settled(sinks.books, 90, sinks.refused)
            waits[how].append(recovery)
        assert await daemon.stop() == 0
        dead = await daemon.dead_letters()
        left = missing(shown, sinks.books, {"bulk": lambda: dead["bulk"]})
        opinion = await audited(daemon)

        assert left == dict.fromkeys(sinks.books, 0)
        assert max(max(found) for found in waits.values()) < BOUND
        ledger.row(
            "Network",
            "connections to the API and the sinks reset, refused, or swallowed for seconds",
            times=rounds,
            events=shown.total(),
            lost=sum(left.values()),
            again=sinks.again(),
            recovery=max(max(found) for found in waits.values()),
            more=f"by a proxy on each way; bound: 2 poll intervals + backoff cap = "
            f"{2 * POLL + CAP:.0f} s; {opinion}",
        )


async def test_a_line_that_drops_what_was_acknowledged_is_found(
    tmp_path: Path, ledger: Ledger
) -> None:
    """Planted: a collector that says yes and forgets; the judge must miss those rows."""
    async with HecBook() as sink, site(tmp_path, {"hec": hec(sink)}, *OPTIONS) as daemon:
        sink.forgets = 2
        await daemon.start()
        await until(lambda: sink.book.arrived)
        await asyncio.sleep(2)
        began = time.monotonic()
        left = await daemon.standing({"hec": lambda: sink.book})

        assert left["hec"] >= 200
        assert time.monotonic() - began < 60
        ledger.plant("Network", "a destination that forgets what it acknowledged", left)
