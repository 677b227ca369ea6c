"""Provisioning logs: chunks of providers, one that is refused, one that appears, one that goes."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from random import Random

import orjson
import pytest

from forwarder.core.contracts import Page, StreamKey, Window
from forwarder.core.masking import MASK
from forwarder.core.telemetry import ignore
from forwarder.ingest.poller import Poller
from forwarder.ingest.rounds import Gate, StreamContext
from forwarder.ingest.windows import PollOptions
from forwarder.sources.cloudflare_access.account import AccountConfig, ScimUpdatesConfig
from forwarder.sources.cloudflare_access.answers import RequestRefusedError
from forwarder.sources.cloudflare_access.scim.providers import chunked
from forwarder.sources.cloudflare_access.scim.updates import REFUSED, ScimUpdates
from forwarder.transport.settings import Secret
from tests.ingest.inline_log import InlineJournal
from tests.ingest.scripted_cloudflare import SECOND_US, Cloudflare, ScriptedApi, created_at
from tests.ingest.virtual_time import VirtualClock

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
KEY = StreamKey(ACCOUNT, "scim_updates")
START_US = 1_790_000_000 * SECOND_US
WINDOW = Window(START_US - 100 * SECOND_US, START_US)


class Rig:
    """A source over a scripted API; `poll` also runs the poller on a journal."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock(START_US)
        self.cloudflare = Cloudflare(self.clock)
        config = AccountConfig(account_id=ACCOUNT, api_token=Secret("t"), rate_limit=None)
        api = ScriptedApi(self.cloudflare, config, self.clock)
        self.restarted = partial(ScimUpdates, api, config, ScimUpdatesConfig(), self.clock)
        self.source = self.restarted()
        self.journal = InlineJournal(folder, KEY, self.clock)
        self.poller = Poller(
            StreamContext(
                key=KEY,
                account="acme",
                source=self.source,
                log=self.journal.log,
                gate=Gate(2**40, _empty, self.clock, ignore),
                clock=self.clock,
                rng=Random(1),
                emit=ignore,
                beat=lambda: None,
                retention=86_400.0,
            ),
            PollOptions(30.0, 86_400.0, 60.0, (600.0,), 86_400.0),
        )
        self.task: asyncio.Task[None] | None = None

    def add(self, idp: str, seconds_ago: float = 1.0, **values: str) -> None:
        time_us = self.clock.true_us - round(seconds_ago * SECOND_US)
        body = self.cloudflare.add(time_us, None, idp_id=idp)
        body.update(values, logged_at=created_at(time_us, 0))

    async def read(self, ids: list[str]) -> list[Page]:
        """Read the window to its end."""
        position, pages = None, []
        while True:
            page = await self.source.fetch(WINDOW, position, parts=ids)
            pages.append(page)
            position = orjson.loads(orjson.dumps(page.position))
            if position is None:
                return pages

    async def poll(self, seconds: float) -> None:
        if self.task is None:
            self.task = asyncio.create_task(self.poller.run())
        await self.clock.advance(seconds)
        if self.task.done():
            self.task.result()

    def delivered(self) -> list[str]:
        return sorted(
            row["idp_id"]
            for page in self.journal.drain(0)
            if page.stream == KEY.stream
            for row in page.rows
        )

    def gaps(self) -> list[str]:
        return [gap.reason for gap in self.journal.gaps()]


async def _empty() -> int:
    return 0


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    if rig.task is not None:
        rig.task.cancel()
        await asyncio.gather(rig.task, return_exceptions=True)
    rig.journal.close()


def identities(pages: list[Page]) -> int:
    return len({record.identity for page in pages for record in page.records})


async def test_many_providers_are_read_in_chunks(rig: Rig) -> None:
    ids = [f"idp-{number}" for number in range(45)]
    for id_ in ids:
        rig.add(id_)

    pages = await rig.read(ids)

    assert [20, 20, 5] == [len(chunk) for chunk in chunked(ids)]
    assert 45 == identities(pages)


async def test_a_refused_provider_is_passed_over_and_the_others_are_read(rig: Rig) -> None:
    ids = [f"idp-{number}" for number in range(7)]
    for id_ in ids:
        rig.add(id_)
    rig.cloudflare.refused = {"idp-3"}

    pages = await rig.read(ids)

    lost = [lost for page in pages for lost in page.lost]
    assert 6 == identities(pages)
    assert [(REFUSED, "Cloudflare refuses identity provider idp-3")] == [
        (one.reason, one.detail) for one in lost
    ]


async def test_a_refused_provider_is_one_open_gap_for_as_long_as_it_lasts(rig: Rig) -> None:
    rig.cloudflare.providers = {"a": True, "b": True}
    rig.cloudflare.refused = {"b"}

    await rig.poll(120)

    (gap,) = rig.journal.gaps()
    assert (REFUSED, None) == (gap.reason, gap.closed_us)


async def test_a_refused_provider_costs_a_request_in_five_minutes(rig: Rig) -> None:
    """It takes four refusals to find one of eight, for each reader, and a second one to believe."""
    rig.cloudflare.providers = {f"idp-{number}": True for number in range(8)}
    rig.cloudflare.refused = {"idp-3"}
    await rig.poll(1200)
    found_by = rig.cloudflare.refusals
    await rig.poll(3600)

    assert found_by <= 2 * (4 + 1) + 4
    assert rig.cloudflare.refusals - found_by <= 3600 / 300


async def test_a_refusal_is_remembered_over_a_restart(rig: Rig) -> None:
    rig.cloudflare.refused = {"b"}
    rig.cloudflare.providers = {"a": True, "b": True}
    memory = (await rig.source.parts(None, START_US)).memory
    for _ in range(2):
        await rig.read(["a", "b"])
    memory = orjson.loads(orjson.dumps((await rig.source.parts(memory, START_US)).memory))
    found_by = rig.cloudflare.refusals

    restarted = rig.restarted()
    ids = (await restarted.parts(memory, START_US)).ids or ()
    page = await restarted.fetch(WINDOW, None, parts=ids)

    assert [REFUSED] == [lost.reason for lost in page.lost]
    assert found_by == rig.cloudflare.refusals


async def test_the_providers_are_listed_at_once_after_a_restart(rig: Rig) -> None:
    """One may have come while the process was down, however short that was."""
    rig.cloudflare.providers = {"a": True}
    memory = (await rig.source.parts(None, START_US)).memory
    rig.cloudflare.providers["b"] = True
    assert (await rig.source.parts(memory, START_US)).ids == ("a",)

    restarted = rig.restarted()

    assert (await restarted.parts(memory, START_US)).ids == ("a", "b")
    assert rig.cloudflare.listings == 2 * 2


async def test_a_provider_that_is_accepted_again_is_read_again(rig: Rig) -> None:
    rig.cloudflare.providers = {"a": True, "b": True}
    rig.cloudflare.refused = {"b"}
    await rig.poll(300)
    rig.cloudflare.refused = set()
    await rig.poll(360)
    rig.add("b")
    await rig.poll(60)

    assert ["b"] == rig.delivered()
    assert all(gap.closed_us for gap in rig.journal.gaps())


async def test_a_slip_hides_nothing(rig: Rig) -> None:
    """Refused once, a provider is asked for again at the next poll, which overlaps."""
    rig.cloudflare.providers = {"a": True, "b": True}
    await rig.poll(65)
    rig.cloudflare.refused = {"a"}
    rig.add("a")
    await rig.poll(30)
    rig.cloudflare.refused = set()
    await rig.poll(30)

    assert ["a"] == rig.delivered()


async def test_where_all_are_refused_the_stream_is_held_and_loses_nothing(rig: Rig) -> None:
    """A filter in the settings may be what is refused: nobody is passed over for that."""
    rig.cloudflare.providers = {"a": True, "b": True, "c": True}
    await rig.poll(65)
    covered_us = rig.journal.readers()["live"]
    rig.cloudflare.refused = {"a", "b", "c"}
    for _ in range(40):
        for id_ in rig.cloudflare.refused:
            rig.add(id_)
        await rig.poll(60)
    status = rig.poller.state()
    held_us = rig.journal.readers()["live"]
    rig.cloudflare.refused = set()
    await rig.poll(120)

    assert "held" == status.phase
    assert covered_us == held_us
    assert status.failure
    assert status.failure.since < rig.clock.monotonic() - 2400
    assert sorted(["a", "b", "c"] * 40) == rig.delivered()
    assert [] == rig.gaps()
    assert "running" == rig.poller.state().phase


async def test_a_held_stream_asks_for_one_provider_at_a_time(rig: Rig) -> None:
    rig.cloudflare.providers = {f"idp-{number}": True for number in range(26)}
    await rig.poll(65)
    rig.cloudflare.refused = set(rig.cloudflare.providers)
    await rig.poll(120)
    found_by = rig.cloudflare.refusals
    rig.cloudflare.asked.clear()
    await rig.poll(3600)

    assert 26 <= rig.cloudflare.refusals - found_by <= 2 * 3600 / 30
    assert set(rig.cloudflare.providers) == rig.cloudflare.asked


async def test_one_that_is_accepted_ends_the_wait_for_all(rig: Rig) -> None:
    rig.cloudflare.providers = {"a": True, "b": True}
    await rig.poll(65)
    rig.cloudflare.refused = {"a", "b"}
    await rig.poll(600)
    for id_ in ("a", "b"):
        rig.add(id_)
    rig.cloudflare.refused = {"a"}
    await rig.poll(180)

    assert ["b"] == rig.delivered()
    assert [REFUSED] == rig.gaps()
    assert "running" == rig.poller.state().phase


async def test_a_held_stream_goes_on_at_once_when_it_is_woken(rig: Rig) -> None:
    """A secret file changed: nobody waits for the next poll, which may be far away."""
    rig.cloudflare.providers = {"a": True, "b": True}
    await rig.poll(65)
    rig.cloudflare.refused = {"a", "b"}
    rig.add("a")
    await rig.poll(31)
    held = rig.poller.state().phase
    rig.cloudflare.refused = set()
    rig.poller.wake()
    await rig.poll(1)

    assert "held" == held
    assert "running" == rig.poller.state().phase
    assert ["a"] == rig.delivered()


async def test_a_provider_that_comes_ends_the_wait_for_one_that_is_refused(rig: Rig) -> None:
    """The list is read while the stream is held."""
    rig.cloudflare.providers = {"a": True}
    await rig.poll(65)
    rig.cloudflare.refused = {"a"}
    await rig.poll(120)
    held = rig.poller.state().phase
    rig.cloudflare.providers["b"] = True
    rig.add("b")
    await rig.poll(900)

    assert "held" == held
    assert ["b"] == rig.delivered()
    assert "running" == rig.poller.state().phase


async def test_a_provider_that_is_deleted_holds_nothing(rig: Rig) -> None:
    """Its last day is still requested, and what is refused of that is recorded."""
    rig.cloudflare.providers = {"a": True}
    await rig.poll(65)
    rig.cloudflare.refused = {"a"}
    await rig.poll(120)
    rig.cloudflare.providers.clear()
    await rig.poll(600)

    assert "running" == rig.poller.state().phase
    assert [REFUSED] == rig.gaps()


async def test_a_stream_that_was_held_is_still_held_after_a_restart(rig: Rig) -> None:
    rig.cloudflare.providers = {"a": True}
    rig.cloudflare.refused = {"a"}
    memory = (await rig.source.parts(None, START_US)).memory
    with pytest.raises(RequestRefusedError):
        await rig.read(["a"])
    memory = orjson.loads(orjson.dumps((await rig.source.parts(memory, START_US)).memory))

    restarted = rig.restarted()
    await restarted.parts(memory, START_US)
    with pytest.raises(RequestRefusedError):
        await restarted.fetch(WINDOW, None, parts=["a"])


async def test_a_new_provider_is_read_from_its_beginning_without_a_hole(rig: Rig) -> None:
    rig.cloudflare.providers = {"a": True}
    await rig.poll(60)
    rig.add("b", seconds_ago=5000)
    rig.cloudflare.providers["b"] = True
    for _ in range(20):
        rig.add("b")
        await rig.poll(30)

    assert ["b"] * 21 == rig.delivered()
    assert "part:b" not in rig.journal.readers()


async def test_a_provider_joins_no_round_that_was_begun_without_it(rig: Rig) -> None:
    """After a restart inside a round the group's old question is finished first."""
    rig.cloudflare.providers = {"a": True}
    await rig.poll(60)
    rig.cloudflare.providers["b"] = True
    rig.cloudflare.faults.extend(["html"] * 3)
    for _ in range(30):
        rig.add("b")
        await rig.poll(21)

    await rig.poll(120)
    assert ["b"] * 30 == rig.delivered()


async def test_a_vanished_provider_is_read_for_another_day(rig: Rig) -> None:
    rig.cloudflare.providers = {"a": True}
    await rig.poll(60)
    rig.cloudflare.providers = {"a": False}
    await rig.poll(600)
    rig.add("a")
    await rig.poll(60)

    assert ["a"] == rig.delivered()


async def test_without_providers_the_stream_is_idle_and_healthy(rig: Rig) -> None:
    await rig.poll(120)

    assert "idle" == rig.poller.state().phase
    assert [] == rig.gaps()


async def test_a_first_list_of_providers_is_kept(rig: Rig) -> None:
    """The list is asked for once at the start and then every five minutes."""
    rig.cloudflare.providers = {"a": True}

    await rig.poll(250)

    assert ("a",) == rig.poller.state().parts


async def test_secrets_are_masked_after_the_identity_was_taken(rig: Rig) -> None:
    for password in ("one", "two"):
        rig.add("a", request_body=f'{{"password":"{password}"}}', ray_id="same")

    pages = await rig.read(["a"])

    assert 2 == identities(pages)
    for page in pages:
        for record in page.records:
            assert MASK in record.row.decode()
            assert b"one" not in record.row
