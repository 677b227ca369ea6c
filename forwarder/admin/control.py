"""The control socket: commands of the same user change a running forwarder.

Names that the daemon and its commands agree on.

The control socket: how commands reach a running daemon, as JSON over a Unix socket.

It lies in the state folder (0700) with mode 0600, so whoever may write the journal may use it.

How a command asks the daemon that holds a state folder. Small imports: commands start fast.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from forwarder.admin.server import Command, as_json
from forwarder.core.errors import ConfigError, ForwarderError, StateError

SOCKET_NAME = "control.sock"
"""The control socket's name inside the state folder."""


_LONGEST_PATH = 100
_LARGEST = 1_000_000


class ControlSocket:
    """Serves named commands to processes of the same user."""

    def __init__(self, state_dir: Path, commands: Mapping[str, Command]) -> None:
        """Serve ``commands``; nothing listens before ``start``."""
        self._path = state_dir / SOCKET_NAME
        self._commands = commands
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen, in the place of a socket that a killed process left behind.

        The caller holds the state folder's lock, so nobody else can be listening.
        """
        if len(os.fsencode(self._path)) > _LONGEST_PATH:
            raise StateError(
                f"the path {self._path} is too long for a socket; choose a shorter state_dir"
            )
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_post("/{command}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        self._path.unlink(missing_ok=True)
        site = web.UnixSite(self._runner, str(self._path))
        try:
            await site.start()
        except OSError as error:
            raise StateError(f"{self._path} cannot be listened on: {error.strerror}") from error
        self._path.chmod(0o600)

    async def aclose(self) -> None:
        """Stop listening and remove the socket; idempotent."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            with suppress(OSError):  # a volume that is read-only now; the next start replaces it
                await asyncio.to_thread(self._path.unlink, missing_ok=True)

    async def _handle(self, request: web.Request) -> web.Response:
        name = request.match_info["command"]
        command = self._commands.get(name)
        if command is None:
            return _refusal(404, f"this daemon knows no command {name!r}; is it an older version?")
        try:
            given = orjson.loads(await request.read() or b"{}")
        except orjson.JSONDecodeError:
            return _refusal(400, "the request is no JSON")
        return await _carry_out(command, given)


async def _carry_out(command: Command, given: Any) -> web.Response:
    if not isinstance(given, dict):
        return _refusal(400, "the request must be a JSON object")
    try:
        return as_json(await command(given))
    except ConfigError as error:
        return _refusal(422, *(str(fault) for fault in error.faults))
    except ForwarderError as error:
        return _refusal(409, str(error))


def _refusal(status: int, *errors: str) -> web.Response:
    return as_json({"errors": errors}, status)


class NoDaemonError(ForwarderError):
    """Nobody listens at the control socket."""


class RefusedError(ForwarderError):
    """The daemon refused the command; ``errors`` says why, one sentence each."""

    def __init__(self, errors: list[str]) -> None:
        """Keep the daemon's sentences."""
        super().__init__("\n".join(errors))
        self.errors = errors


def ask(
    state_dir: Path, command: str, arguments: Mapping[str, Any] | None = None, *, wait: float = 30.0
) -> Any:
    """Send one command to the daemon of ``state_dir`` and return its answer.

    Raises ``NoDaemonError`` when none runs and ``RefusedError`` when it says no. ``wait`` is
    seconds for the answer.
    """
    connection = _UnixConnection(state_dir / SOCKET_NAME, wait)
    try:
        connection.request("POST", f"/{command}", orjson.dumps(dict(arguments or {})))
        answer = connection.getresponse()
        content = orjson.loads(answer.read())
    except (OSError, HTTPException, orjson.JSONDecodeError) as error:
        late = f"nothing within {wait:.0f} s" if isinstance(error, TimeoutError) else ""
        reason = late or getattr(error, "strerror", None) or type(error).__name__
        problem = f"no daemon answers in {state_dir}: {reason}"
        raise NoDaemonError(f"{problem} (does `forwarder run` use these settings?)") from error
    finally:
        connection.close()
    if answer.status >= 400:  # noqa: PLR2004 - HTTP's own line between yes and no
        raise RefusedError([str(reason) for reason in content["errors"]])
    return content


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, wait: float) -> None:
        super().__init__("localhost", timeout=wait)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
