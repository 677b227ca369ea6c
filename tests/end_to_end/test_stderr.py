"""A log that nobody reads costs log lines, and nothing else."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from pathlib import Path

from aiohttp import ClientSession

from forwarder.testing.network import free_port
from tests.end_to_end.processes import SCRIPT, Forwarder, cloudflare, until

_SINKS = "".join(f'  s{number}: {{ type: "null", format: raw }}\n' for number in range(60))
_DROPPED = re.compile(r"^forwarder_log_lines_dropped_total (\S+)", re.MULTILINE)


async def test_a_stderr_that_nobody_reads_stops_no_sink_and_no_end(tmp_path: Path) -> None:
    """A pipe of 4 KiB is full within a second at level debug; then every write to it blocks."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    url, rows = f"http://127.0.0.1:{free_port()}", tmp_path / "rows"
    async with cloudflare("--rate", "50", "--history", "1m") as api, ClientSession() as http:
        forwarder = Forwarder(tmp_path, api.url)
        text = forwarder.settings.read_text().replace("127.0.0.1:0", url.removeprefix("http://"))
        text = text.replace("format: json", "format: json, level: debug")
        forwarder.settings.write_text(text.replace("sinks:\n", f"sinks:\n{_SINKS}"))
        with rows.open("wb") as stdout:
            process = await asyncio.create_subprocess_exec(
                SCRIPT, "run", "-c", forwarder.settings, stdout=stdout, stderr=write
            )
        os.close(write)

        async def asked(path: str) -> tuple[int, str]:
            try:
                async with http.get(url + path) as answer:
                    return answer.status, await answer.text()
            except OSError:
                return 0, ""

        async def dropped() -> bool:
            found = _DROPPED.search((await asked("/metrics"))[1])
            return found is not None and float(found[1]) > 0

        def lines() -> int:
            return rows.read_bytes().count(b"\n")

        try:
            await until(dropped)
            before = lines()
            await until(lambda: lines() > before + 100)
            live, _ = await asked("/livez")
            process.terminate()
            code = await asyncio.wait_for(process.wait(), 30)
        finally:
            if process.returncode is None:
                process.kill()
            os.close(read)

    assert live == 200
    assert code == 0
