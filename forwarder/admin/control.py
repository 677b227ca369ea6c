"""The control socket: commands of the same user change a running forwarder.

JSON over HTTP over a Unix socket. The socket lies in the state folder (0700) with mode 0600, so
that whoever may write the journal may use it, and nobody else.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from forwarder.admin.arguments import ArgumentError, Command
from forwarder.admin.client import SOCKET_NAME
from forwarder.admin.server import as_json
from forwarder.core.errors import BadRequestError, ConfigError, ForwarderError, StateError

# The address of a Unix socket has 108 bytes on Linux and 104 on the BSDs, the final NUL included.
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
        """Listen, replacing a socket that a killed process left behind.

        The caller holds the state folder's lock, so nobody else can be listening. Raises
        ``StateError`` if the socket cannot be made.
        """
        if len(os.fsencode(self._path)) > _LONGEST_PATH:
            raise StateError(
                f"the path {self._path} is too long for a socket; choose a shorter state_dir"
            )
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_post("/{command}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        # A socket file outlives its process, and bind refuses a path that exists.
        self._path.unlink(missing_ok=True)
        site = web.UnixSite(self._runner, str(self._path))
        try:
            await site.start()
        except OSError as error:
            raise StateError(f"{self._path} cannot be listened on: {error.strerror}") from error
        # The folder is 0700 already; a folder that somebody made wider must not open the socket.
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
            return _refusal(400, "the request is no valid JSON")
        return await _carry_out(command, given)


async def _carry_out(command: Command, given: Any) -> web.Response:
    if not isinstance(given, dict):
        return _refusal(400, "the request must be a JSON object")
    try:
        return as_json(await command(given))
    except ArgumentError as error:
        return _refusal(400, *error.errors)
    except ConfigError as error:
        return _refusal(422, *(str(fault) for fault in error.faults))
    except BadRequestError as error:
        return _refusal(400, str(error))
    except ForwarderError as error:
        return _refusal(409, str(error))


def _refusal(status: int, *errors: str) -> web.Response:
    return as_json({"errors": errors}, status)
