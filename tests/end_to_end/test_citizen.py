"""How the process behaves among others: signals, descriptors, its folder, its settings."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import ClientSession, ClientTimeout

from tests.end_to_end.processes import SCRIPT, Cloudflare, Forwarder, cloudflare, until

PID_1 = ("unshare", "--pid", "--fork", "--kill-child")
"""What runs a command as PID 1, and kills it when it is killed itself."""


@pytest.fixture
async def api() -> AsyncIterator[Cloudflare]:
    async with cloudflare("--rate", "5", "--scim-rate", "1", "--history", "1m") as running:
        yield running


@asynccontextmanager
async def running(*command: Any, **options: Any) -> AsyncIterator[Process]:
    """Run a command as long as the block, and kill it if it has not ended by then."""
    process = await asyncio.create_subprocess_exec(*map(str, command), **options)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def shell(text: str) -> tuple[str, str, str]:
    """Return a shell that becomes the forwarder, so that it inherits what the shell has set up."""
    return "/bin/sh", "-c", f"exec {text}"


def as_pid_1(settings: Path) -> tuple[Any, ...]:
    """Return a command that runs the forwarder as PID 1; it is killed with the command."""
    return *PID_1, SCRIPT, "run", "-c", settings


async def status(http: ClientSession, url: str) -> dict[str, Any]:
    async with http.get(url + "/status") as answer:
        found: dict[str, Any] = await answer.json()
    return found


def child_of(process: Process) -> int:
    """Return the id of the only child of ``unshare``, or 0 while there is none."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return int(children or 0)


def seconds_of(process_id: int) -> float:
    """Return the CPU time of a process: how far its start is, however busy the machine is."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a process PID 1")
@pytest.mark.parametrize("moment", [0.15, 0.4, 0.8])
async def test_sigterm_ends_pid_1_in_its_first_instants(
    forwarder: Forwarder, moment: float
) -> None:
    """The kernel drops a signal for which PID 1 has no handler."""
    async with running(*as_pid_1(forwarder.settings), stdout=DEVNULL, stderr=DEVNULL) as process:
        await until(lambda: child_of(process) and seconds_of(child_of(process)) >= moment)
        os.kill(child_of(process), signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 20)

    assert code in {0, 128 + signal.SIGTERM}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a process PID 1")
async def test_sigterm_is_kept_for_pid_1_while_python_starts(forwarder: Forwarder) -> None:
    """The image's entry point blocks it, since no code of ours can run yet."""
    image = (Path(__file__).parents[2] / "deploy/Dockerfile").read_text()
    *before, _ = json.loads(image.rpartition("ENTRYPOINT ")[2].partition("\n")[0])
    early = "import os, signal\nif os.getpid() == 1: os.kill(1, signal.SIGTERM)\n"
    (forwarder.folder / "sitecustomize.py").write_text(early)
    command = (*PID_1, *before, SCRIPT, "run", "-c", forwarder.settings)
    environment = {**os.environ, "PYTHONPATH": str(forwarder.folder)}
    async with running(*command, stdout=DEVNULL, stderr=DEVNULL, env=environment) as process:
        code = await asyncio.wait_for(process.wait(), 20)

    assert code == 128 + signal.SIGTERM


async def test_a_reload_in_the_first_instant_does_not_end_it(forwarder: Forwarder) -> None:
    await forwarder.start()
    await until(lambda: seconds_of(forwarder.process.pid) >= 0.3)
    while not forwarder.has_started():
        forwarder.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.2)
        assert forwarder.process.returncode is None

    assert await forwarder.stop() == 0


async def test_without_stderr_it_runs_as_ever(forwarder: Forwarder) -> None:
    output, command = forwarder.folder / "out", f"{SCRIPT} run -c {forwarder.settings} 2>&-"
    with output.open("wb") as stdout:
        async with running(*shell(command), stdout=stdout) as process:
            await until(lambda: output.stat().st_size)
            process.terminate()
            code = await asyncio.wait_for(process.wait(), 40)

    assert code == 0


async def test_without_stdin_and_stdout_it_ends_without_a_core_dump(forwarder: Forwarder) -> None:
    """Their numbers would go to the event loop, and the sink would write into it."""
    errors, command = forwarder.folder / "err", f"{SCRIPT} run -c {forwarder.settings} <&- >&-"
    with errors.open("wb") as stderr:
        async with running(*shell(command), stderr=stderr) as process:
            await until(lambda: '"event":"started"' in errors.read_text())
            await asyncio.sleep(2)
            process.terminate()
            code = await asyncio.wait_for(process.wait(), 40)

    assert code == 0
    assert "sink_waiting" not in errors.read_text()
    assert "sink_held" not in errors.read_text()


async def test_a_state_folder_that_is_gone_is_noticed(forwarder: Forwarder) -> None:
    """It would work on in a file that nobody can find again."""
    await forwarder.start()
    url = await forwarder.admin_url()
    state = forwarder.folder / "state"
    async with ClientSession() as http:
        await until(forwarder.events)
        shutil.rmtree(state)

        async def reasons() -> str:
            async with http.get(url + "/readyz") as answer:
                return " ".join((await answer.json())["reasons"])

        async def noticed() -> bool:
            return f"{state} was removed or replaced" in await reasons()

        await until(noticed, 30)
    async with running(SCRIPT, "run", "-c", forwarder.settings, stderr=PIPE) as second:
        _, errors = await asyncio.wait_for(second.communicate(), 60)

    assert any(
        line["event"] == "journal_troubled" and str(state) in line["error"] and line["hint"]
        for line in forwarder.log()
    )
    if sys.platform == "linux":
        assert second.returncode == 2
        assert f"in use by process {forwarder.process.pid}" in errors.decode()


@pytest.mark.parametrize("mode", [0o755, 0o2770])
async def test_a_state_folder_that_others_may_enter_is_warned_about(
    forwarder: Forwarder, mode: int
) -> None:
    state = forwarder.folder / "state"
    state.mkdir()
    state.chmod(mode)
    await forwarder.start()
    await until(forwarder.has_started)
    (warning,) = [line for line in forwarder.log() if line["event"] == "settings_warning"]

    assert f"{state} has mode {mode:04o}" in str(warning)
    assert f"chmod 700 {state}" in str(warning)


async def test_refused_settings_are_shown_until_good_ones_are_read(forwarder: Forwarder) -> None:
    await forwarder.start()
    url = await forwarder.admin_url()
    good = forwarder.settings.read_text()
    async with ClientSession() as http:

        async def settings() -> dict[str, Any]:
            found: dict[str, Any] = (await status(http, url))["settings"]
            return found

        async def metric(name: str) -> float:
            async with http.get(url + "/metrics") as answer:
                text = await answer.text()
            return float(text.partition(f"\n{name} ")[2].partition("\n")[0])

        async def refused() -> bool:
            return bool((await settings())["refused"])

        async def taken() -> bool:
            return not await refused()

        await until(forwarder.has_started)
        assert (await settings())["refused"] == []
        assert await metric("forwarder_settings_refused") == 0

        forwarder.settings.write_text(good.replace("sinks:\n", "sinks:\n  void: { type: nul }\n"))
        forwarder.process.send_signal(signal.SIGHUP)
        await until(refused)
        shown = await settings()
        assert "void" in shown["refused"][0]
        assert shown["refused_at"]
        assert await metric("forwarder_settings_refused") == 1

        forwarder.settings.write_text(good)
        forwarder.process.send_signal(signal.SIGHUP)
        await until(taken)
        assert await metric("forwarder_settings_refused") == 0


async def test_a_reload_while_the_disk_is_full_ends_nothing(forwarder: Forwarder) -> None:
    """A new sink needs a place in the journal, which cannot be written; it gets it later."""
    await forwarder.start()
    url = await forwarder.admin_url()
    await until(forwarder.has_started)
    text = forwarder.settings.read_text()
    forwarder.settings.write_text(text.replace("sinks:\n", 'sinks:\n  void: { type: "null" }\n'))
    async with ClientSession() as http:

        async def has_the_sink() -> bool:
            return len((await status(http, url))["sinks"]) == 2

        limited = psutil.Process(forwarder.process.pid)
        limited.rlimit(psutil.RLIMIT_FSIZE, (1, -1))
        forwarder.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(3)
        assert forwarder.process.returncode is None
        limited.rlimit(psutil.RLIMIT_FSIZE, (-1, -1))

        await until(has_the_sink)


async def test_keys_that_wait_for_a_restart_stay_shown(forwarder: Forwarder) -> None:
    """Also when the same settings are read again, which changes nothing more."""
    await forwarder.start()
    url = await forwarder.admin_url()
    text = forwarder.settings.read_text()
    text = text.replace("format: json }", "format: console }") + "journal: { max_size: 3GB }\n"
    forwarder.settings.write_text(text)
    async with ClientSession() as http:
        await until(forwarder.has_started)
        for reloads in (1, 2):
            forwarder.process.send_signal(signal.SIGHUP)
            await until(lambda n=reloads: forwarder.errors().count('"settings_reloaded"') == n)
            shown = (await status(http, url))["settings"]

            assert shown["needs_restart"] == ["journal", "log.format"]


async def test_files_that_become_named_pipes_stop_nothing(forwarder: Forwarder) -> None:
    """Whoever opens one waits until somebody else writes into it."""
    await forwarder.start()
    url = await forwarder.admin_url()
    await until(forwarder.events)
    for file in (forwarder.folder / "token", forwarder.settings):
        file.unlink()
        os.mkfifo(file)
    forwarder.process.send_signal(signal.SIGHUP)
    async with ClientSession(timeout=ClientTimeout(total=10)) as http:

        async def refused() -> bool:
            return "named pipe" in str((await status(http, url))["settings"]["refused"])

        await until(refused)

    assert await forwarder.stop() == 0
