"""The kernel itself cuts the connections, in a network namespace: nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest

from tests.end_to_end.processes import until
from tests.proof import own_network
from tests.proof.ledger import Ledger
from tests.proof.own_network import NoNamespaceError
from tests.proof.sinks import Five, five
from tests.proof.site import Site, missing, site
from tests.proof.test_network import BOUND, CAP, OPTIONS, POLL, TIMEOUT

_CUTS = ("blackhole", "unreachable", "prohibit", "link down", "connections killed")


@pytest.fixture
def network() -> Iterator[None]:
    try:
        with own_network.own_network():
            yield
    except NoNamespaceError as error:
        pytest.skip(f"a network namespace needs privileges that are not there: {error}")


def ports_of(daemon: Site, sinks: Five) -> dict[str, int]:
    """Return where everything listens that the daemon talks to."""
    urls = {"api": daemon.api.url, "hec": sinks.hec.url, "bulk": sinks.bulk.url}
    ports = {name: urlsplit(url).port or 0 for name, url in urls.items()}
    return ports | {"relp": sinks.relp.port, "syslog": sinks.syslog.port}


async def strike(how: str, ports: list[int], seconds: float) -> None:
    """Break the ways to some ports for a while."""
    if how == "connections killed":
        for port in ports:
            own_network.kill_connections(port)
        return
    if how == "link down":
        own_network.link("down")
    else:
        for port in ports:
            own_network.cut(port, how)
    await asyncio.sleep(seconds)
    if how == "link down":
        own_network.link("up")
    else:
        own_network.repair(len(ports))


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("network")
async def test_nothing_is_lost_when_the_kernel_cuts_the_ways(
    tmp_path: Path, ledger: Ledger, *, long: bool
) -> None:
    rng, rounds = Random(7), 50 if long else 5
    async with five(tmp_path) as sinks, site(tmp_path, sinks.settings(), *OPTIONS) as daemon:
        for one in daemon.settings["sinks"].values():
            one["timeout"] = TIMEOUT
        await daemon.start()
        await until(lambda: sinks.hec.book.arrived, 90)
        ports, waits, shown = ports_of(daemon, sinks), dict[str, float](), await daemon.shown()
        for number in range(rounds):
            how = _CUTS[number % len(_CUTS)]
            struck = rng.sample(list(ports.values()), rng.randint(2, 5))
            await strike(how, struck, rng.uniform(3, 6))
            shown, recovery = await daemon.settled(sinks.books, 90, sinks.refused)
            waits[how] = max(recovery, waits.get(how, 0.0))
        assert await daemon.stop() == 0
        dead = await daemon.dead_letters()
        left = missing(shown, sinks.books, {"bulk": lambda: dead.get("bulk", set())})

        assert left == dict.fromkeys(sinks.books, 0)
        assert max(waits.values()) < BOUND
        ledger.row(
            "Network",
            "a network namespace whose kernel drops, refuses, kills, or takes the link down",
            times=rounds,
            events=shown.total(),
            lost=sum(left.values()),
            again=sinks.again(),
            recovery=max(waits.values()),
            more=f"bound: 2 poll intervals + backoff cap = {2 * POLL + CAP:.0f} s; "
            + ", ".join(f"{how}: {wait:.1f} s" for how, wait in waits.items()),
        )
