"""Doors that are closed by default: the admin server, the files, TLS, secrets in outputs."""

from __future__ import annotations

import asyncio
import ssl
import stat
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import trustme
import yaml
from aiohttp import ClientSession

from tests.end_to_end.processes import until
from tests.proof.destinations import HecBook
from tests.proof.ledger import Ledger
from tests.proof.sinks import hec
from tests.proof.site import SECRETS, Site, site

_OPTIONS = ("--rate", "5", "--scim-rate", "1", "--history", "2m")
_TRICKS = (
    "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/status/../livez/..%00",
    "/metrics%0d%0aX-Injected:1", "/static/..\\..\\x", "/" + "a" * 20_000, "/_simulator/shown",
)  # fmt: skip


async def raw(url: str, data: bytes, wait: float = 15.0) -> bytes:
    """Send bytes as they are and return what comes back until the connection ends."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(data)
    answer = b""
    with suppress(ConnectionError, TimeoutError):
        answer = await asyncio.wait_for(reader.read(), wait)
    writer.close()
    return answer


async def admin(daemon: Site) -> str:
    """Return the admin server's URL."""
    await daemon.running()
    return str(next(line["url"] for line in daemon.log() if line["event"] == "admin_listening"))


@pytest.mark.timeout(200)
async def test_the_admin_server_is_on_loopback_and_bears_tricks_and_slowness(
    tmp_path: Path, ledger: Ledger
) -> None:
    async with HecBook() as sink, site(tmp_path, {"hec": hec(sink)}, *_OPTIONS) as daemon:
        await daemon.start()
        url = await admin(daemon)
        listening = [
            one.laddr.ip
            for one in psutil.Process(daemon.process.pid).net_connections("inet")
            if one.status == psutil.CONN_LISTEN
        ]
        answers = [
            await raw(url, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            for path in _TRICKS
        ]
        big = await raw(
            url, b"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n"
        )
        began = time.monotonic()
        slow = await asyncio.gather(*(raw(url, b"GET /livez HT", 40) for _ in range(60)))
        patience = time.monotonic() - began
        async with ClientSession() as http, http.get(url + "/livez") as answer:
            alive = answer.status
        assert await daemon.stop() == 0

        assert set(listening) == {"127.0.0.1"}
        assert all(b"root:" not in answer and b"X-Injected" not in answer for answer in answers)
        assert all(answer.split(b" ")[1][:1] == b"4" for answer in answers if answer)
        assert big.split(b" ")[1] in (b"404", b"405", b"413", b"400")
        assert patience < 35
        assert alive == 200
        ledger.row(
            "Security", "admin server: path tricks, a huge body, connections that never end a line",
            times=len(_TRICKS) + 1 + len(slow),
            more=f"listens on 127.0.0.1 only; slow ones are closed after {patience:.0f} s",
        )  # fmt: skip


async def test_files_are_for_the_owner_and_a_readable_secret_is_warned_of(
    tmp_path: Path, ledger: Ledger
) -> None:
    async with HecBook() as sink, site(tmp_path, {"hec": hec(sink)}, *_OPTIONS) as daemon:
        await daemon.start()
        await daemon.running()
        modes = {
            file.name: stat.S_IMODE(file.stat().st_mode)
            for file in (tmp_path / "state", *(tmp_path / "state").iterdir())
        }
        assert await daemon.stop() == 0
        daemon.config.chmod(0o644)
        await daemon.start()
        await daemon.running()
        warned = [line for line in daemon.log() if line["level"] == "warning"]
        assert await daemon.stop() == 0

        assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}
        assert any("chmod 600" in str(line) for line in warned)
        ledger.row(
            "Security", "files of the state folder that others may read", times=len(modes),
            more="a settings file with secrets that is wider than 0600 is warned of",
        )  # fmt: skip


async def test_an_unknown_certificate_is_refused_by_default(tmp_path: Path, ledger: Ledger) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    sink = HecBook(tls=context)
    async with sink, site(tmp_path, {"hec": hec(sink)}, *_OPTIONS) as daemon:
        await daemon.start()
        await until(lambda: "certificate" in daemon.errors())
        assert await daemon.stop() == 0

        assert sink.deliveries == 0
        ledger.row(
            "Security", "a destination with an unknown certificate gets nothing",
            events=sink.book.arrived.total(),
        )  # fmt: skip


async def test_no_output_tells_a_secret(tmp_path: Path, ledger: Ledger) -> None:
    """Refused tokens, broken settings, status, metrics and every command's output are searched."""
    async with HecBook() as sink, site(tmp_path, {"hec": hec(sink)}, *_OPTIONS) as daemon:
        sink.token = "another"
        await daemon.start()
        url = await admin(daemon)
        await asyncio.sleep(3)
        said = []
        async with ClientSession() as http:
            for path in ("/status", "/metrics", "/readyz", "/"):
                async with http.get(url + path) as answer:
                    said.append(await answer.text())
        commands = ("config show", "check", "status", "cursors list", "gaps")
        said += [(await daemon.command(*one.split()))[1].decode() for one in commands]
        daemon.settings["sinks"]["hec"]["tokens"] = daemon.settings["sinks"]["hec"]["token"]
        daemon.config.write_text(yaml.safe_dump(daemon.settings))
        await daemon.command("check")
        assert await daemon.stop() == 0
        told = [secret for secret in SECRETS for text in said if secret in text]

        assert told == []
        assert daemon.leaks() == []
        (tmp_path / "planted.log").write_text(f"sent with {SECRETS[1]}")
        planted = daemon.leaks()
        (tmp_path / "planted.log").unlink()
        assert planted
        ledger.row(
            "Security", "outputs searched for tokens: logs, status, metrics, commands, journal",
            times=len(said),
            more="the same search runs over the folder of every other run on this page",
        )  # fmt: skip
        ledger.plant("Security", "a log line with a token", "1 file named by the search")
