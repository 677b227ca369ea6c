"""`forwarder run` against `forwarder simulate`, as an operator would run them."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from aiohttp import ClientSession

from tests.end_to_end.processes import (
    SCRIPT,
    Cloudflare,
    Forwarder,
    caught_up,
    cloudflare,
    until,
)


@pytest.fixture
async def api() -> AsyncIterator[Cloudflare]:
    async with cloudflare("--rate", "20", "--scim-rate", "3", "--history", "10m") as running:
        yield running


@pytest.fixture
async def forwarder(api: Cloudflare, tmp_path: Path) -> AsyncIterator[Forwarder]:
    running = Forwarder(tmp_path, api.url)
    await running.start()
    yield running
    await running.kill()


async def test_every_row_that_was_shown_is_on_stdout_exactly_once(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    await caught_up(api, forwarder)
    await asyncio.sleep(2.5)
    await caught_up(api, forwarder)
    assert await forwarder.stop() == 0

    delivered = forwarder.delivered()
    ids = [event["_forwarder"]["id"] for event in forwarder.events()]
    assert delivered.total() > 10_000
    assert delivered - await api.shown() == {}
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "kills", [10, pytest.param(50, marks=[pytest.mark.proof, pytest.mark.timeout(600)])]
)
async def test_nothing_is_missing_after_kills_at_random_moments(kills: int, tmp_path: Path) -> None:
    """What was unacknowledged comes again, and nothing else: one batch a kill at the most.

    Every third kill hits the start, the others the reading and delivering.
    """
    moments = Random(7)
    async with cloudflare("--rate", "50", "--scim-rate", "5", "--history", "10m") as api:
        forwarder = Forwarder(tmp_path, api.url)

        async def has_shown_all() -> bool:
            return (await api.shown()).total() > 30_000

        for number in range(kills):
            await forwarder.start()
            if number % 3:
                await until(forwarder.has_started)
            await asyncio.sleep(moments.uniform(0.0, 0.6))
            await forwarder.kill()
        await forwarder.start()
        await until(has_shown_all)
        await caught_up(api, forwarder)
        assert await forwarder.stop() == 0

        delivered, shown = forwarder.delivered(), await api.shown()
        again = (delivered - shown).total()
        print(f"{kills} kills, {delivered.total()} rows, of which {again} came again")  # noqa: T201
        assert delivered.keys() - shown.keys() == set()
        assert delivered.total() > 30_000
        assert again <= kills * 2_000


async def test_a_second_process_on_the_same_state_is_told_who_holds_it(
    forwarder: Forwarder,
) -> None:
    await until(forwarder.events)
    second = await asyncio.create_subprocess_exec(
        SCRIPT, "run", "-c", forwarder.settings, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await second.communicate()

    assert second.returncode == 2
    assert f"in use by process {forwarder.process.pid} on" in errors.decode()
    assert len(errors.decode().splitlines()) == 1


async def test_a_wrong_token_is_told_and_heals_when_its_file_changes(
    api: Cloudflare, tmp_path: Path
) -> None:
    forwarder = Forwarder(tmp_path, api.url)
    forwarder.set_token("wrong-token")
    await forwarder.start()
    url = await forwarder.admin_url()
    async with ClientSession() as http:

        async def readiness() -> tuple[int, str]:
            async with http.get(url + "/readyz") as answer:
                return answer.status, " ".join((await answer.json())["reasons"])

        async def held() -> bool:
            status, reasons = await readiness()
            return status == 503 and "held" in reasons

        async def ready() -> bool:
            return (await readiness())[0] == 200

        await until(held)
        _, reasons = await readiness()
        assert "token" in reasons
        forwarder.set_token("simulated-token")
        await until(ready)
        async with http.get(url + "/livez") as answer:
            assert answer.status == 200
    await caught_up(api, forwarder)
    assert await forwarder.stop() == 0

    assert "wrong-token" not in forwarder.errors()
    assert any(line["event"] == "stream_held" and line["hint"] for line in forwarder.log())


async def test_a_graceful_end_settles_what_is_under_way_and_says_so(forwarder: Forwarder) -> None:
    await until(forwarder.events)

    assert await forwarder.stop(signal.SIGINT) == 0
    assert [line["event"] for line in forwarder.log()][-1] == "stopped"
    assert forwarder.log()[-1]["settled"] is True


async def test_after_a_restart_nothing_comes_twice(api: Cloudflare, forwarder: Forwarder) -> None:
    await caught_up(api, forwarder)
    assert await forwarder.stop() == 0
    await forwarder.start()
    await asyncio.sleep(2)
    await caught_up(api, forwarder)
    assert await forwarder.stop() == 0

    assert forwarder.delivered() - await api.shown() == {}


def is_full(pipe: int) -> bool:
    """Tell whether whoever writes has to wait."""
    return not select.select([], [pipe], [], 0)[1]


async def test_a_second_signal_ends_it_at_once(api: Cloudflare, tmp_path: Path) -> None:
    """With a reader that never reads, the first signal waits for the batch under way."""
    forwarder = Forwarder(tmp_path, api.url)
    unread, stdout = os.pipe()
    process = await asyncio.create_subprocess_exec(
        SCRIPT, "run", "-c", forwarder.settings, stdout=stdout, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    await until(lambda: is_full(stdout))
    process.terminate()
    while b'"stopping"' not in await process.stderr.readline():
        pass
    assert process.returncode is None
    process.terminate()

    assert await asyncio.wait_for(process.wait(), 20) == 1  # the grace period is longer
    os.close(unread)
    os.close(stdout)


async def test_new_settings_are_taken_by_a_signal_and_bad_ones_refused(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    await caught_up(api, forwarder)
    good = forwarder.settings.read_text()
    url = await forwarder.admin_url()
    async with ClientSession() as http:

        async def sinks() -> set[str]:
            async with http.get(url + "/status") as answer:
                return {sink["sink"] for sink in (await answer.json())["sinks"]}

        def told(event: str) -> bool:
            return any(line["event"] == event for line in forwarder.log())

        forwarder.settings.write_text(good.replace("sinks:\n", "sinks:\n  void: { type: nul }\n"))
        forwarder.process.send_signal(signal.SIGHUP)
        await until(lambda: told("settings_refused"))
        assert await sinks() == {"console"}

        changed = good.replace(
            "access_requests: { poll_interval: 1s", "access_requests: { overlap: 90s"
        )
        forwarder.settings.write_text(
            changed.replace("sinks:\n", "sinks:\n  void: { type: null }\n")
        )
        forwarder.process.send_signal(signal.SIGHUP)
        await until(lambda: told("settings_reloaded"))
        (line,) = [line for line in forwarder.log() if line["event"] == "settings_reloaded"]
        assert line["sinks"] == ["added void"]
        assert line["streams"] == ["changed acme/access_requests"]
        assert await sinks() == {"console", "void"}

        forwarder.settings.write_text(good)
        forwarder.process.send_signal(signal.SIGHUP)
        await until(
            lambda: len([1 for line in forwarder.log() if "settings_re" in line["event"]]) > 2
        )
        assert await sinks() == {"console"}
    assert await forwarder.stop() == 0
    assert forwarder.delivered() - await api.shown() == {}


async def test_settings_that_follow_their_file_need_no_signal(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    await caught_up(api, forwarder)
    plain = forwarder.settings.read_text()
    followed = plain + "reload_on_change: true\n"

    def reloads() -> list[list[str]]:
        log = forwarder.log()
        return [line["sinks"] for line in log if line["event"] == "settings_reloaded"]

    forwarder.settings.write_text(followed)
    forwarder.process.send_signal(signal.SIGHUP)
    await until(reloads)
    with_another = followed.replace("sinks:\n", "sinks:\n  void: { type: null }\n")
    forwarder.settings.with_name("next").write_text(with_another)
    forwarder.settings.with_name("next").replace(forwarder.settings)
    await until(lambda: ["added void"] in reloads())

    assert await forwarder.stop() == 0


async def test_nothing_is_missing_whatever_the_api_does(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    await until(forwarder.delivered)
    faults = [
        {"kind": "throttled", "times": 2, "seconds": 1},
        {"kind": "html", "times": 3},
        {"kind": "truncated", "times": 2},
        {"kind": "unsuccessful", "times": 2},
        {"kind": "reset", "times": 2},
        {"kind": "ignore_page", "times": None},
        {"kind": "late", "times": 40, "seconds": 3},
        {"kind": "twins", "times": 3, "count": 3},
        {"kind": "new_key", "times": 1, "key": "added_later", "value": 1},
    ]
    await api.command("faults", faults)
    await asyncio.sleep(8)
    await api.end_faults()
    await caught_up(api, forwarder)
    assert await forwarder.stop() == 0

    assert [line for line in forwarder.log() if line["event"] == "task_crashed"] == []
    assert [line for line in forwarder.log() if line["event"] == "gap_opened"] == []
    assert forwarder.delivered() - await api.shown() == {}


async def test_a_damaged_journal_stops_the_start_and_is_left_as_it_is(
    api: Cloudflare, forwarder: Forwarder
) -> None:
    await caught_up(api, forwarder)
    assert await forwarder.stop() == 0
    journal = forwarder.folder / "state" / "journal.db"
    damaged = bytearray(journal.read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    journal.write_bytes(damaged)
    await forwarder.start()

    assert await asyncio.wait_for(forwarder.process.wait(), 120) == 1
    assert str(journal) in forwarder.errors()
    assert "Traceback" not in forwarder.errors()
    assert journal.read_bytes() == damaged
