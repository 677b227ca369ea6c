"""Commands reach the daemon of the same user through a socket in the state folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from forwarder.admin.client import SOCKET_NAME, NoDaemonError, RefusedError, ask
from forwarder.admin.control import ControlSocket
from forwarder.core.errors import ConfigError, Fault, StateError


async def double(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(arguments.get("number"), int):
        raise StateError("double needs a number")
    return {"doubled": arguments["number"] * 2}


async def refuse(_: Mapping[str, Any]) -> Mapping[str, Any]:
    raise ConfigError([Fault("a", "wrong"), Fault("b", "wrong too")])


async def crash(_: Mapping[str, Any]) -> Mapping[str, Any]:
    raise OverflowError("date value out of range")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Path]:
    commands = {"double": double, "refuse": refuse, "crash": crash}
    control = ControlSocket(tmp_path, commands)
    await control.start()
    yield tmp_path
    await control.aclose()


async def test_a_command_is_carried_out(served: Path) -> None:
    assert await asyncio.to_thread(ask, served, "double", {"number": 4}) == {"doubled": 8}


async def test_a_refusal_says_every_reason(served: Path) -> None:
    with pytest.raises(RefusedError, match="double needs a number"):
        await asyncio.to_thread(ask, served, "double")
    with pytest.raises(RefusedError) as caught:
        await asyncio.to_thread(ask, served, "refuse")

    assert caught.value.errors == ["a: wrong", "b: wrong too"]


@pytest.mark.parametrize("said", [b"[]", b"null", b"5", b"<html>", b""])
async def test_a_stranger_at_the_socket_is_no_daemon(tmp_path: Path, said: bytes) -> None:
    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
        writer.close()

    async with await asyncio.start_unix_server(stranger, tmp_path / SOCKET_NAME):
        with pytest.raises(RefusedError, match="answers no JSON object"):
            await asyncio.to_thread(ask, tmp_path, "status")


async def test_a_fault_of_the_daemon_is_called_one_and_logged_with_its_cause(
    served: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RefusedError, match=r"failed at this \(OverflowError\); its log has"):
        await asyncio.to_thread(ask, served, "crash")

    (line,) = [record for record in caplog.records if record.name == "forwarder.admin"]
    assert (line.levelname, line.getMessage()) == ("ERROR", "the command crash failed")
    assert line.exc_info is not None


async def test_an_unknown_command_is_told(served: Path) -> None:
    with pytest.raises(RefusedError, match="knows no command 'halve'"):
        await asyncio.to_thread(ask, served, "halve")


async def test_only_the_owner_may_use_it(served: Path) -> None:
    assert (served / "control.sock").stat().st_mode & 0o777 == 0o600


async def test_without_a_daemon_the_caller_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoDaemonError, match="no daemon answers"):
        ask(tmp_path, "double")


async def test_a_socket_left_by_a_killed_process_is_replaced(tmp_path: Path) -> None:
    first = ControlSocket(tmp_path, {})
    await first.start()
    second = ControlSocket(tmp_path, {"double": double})
    await second.start()

    assert await asyncio.to_thread(ask, tmp_path, "double", {"number": 1}) == {"doubled": 2}
    await second.aclose()
    await first.aclose()


async def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="too long for a socket"):
        await ControlSocket(tmp_path / ("x" * 100), {}).start()
