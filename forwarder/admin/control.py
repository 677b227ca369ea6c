"""The control socket: commands of the same user change a running forwarder.

JSON over HTTP over a Unix socket. The socket lies in the state folder (0700) with mode 0600, so
that whoever may write the journal may use it, and nobody else.

The arguments of a command come from a process of the same user: most likely a command of this
program, perhaps of another version, perhaps somebody's own script. So each is checked before
anything of the command is done.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import orjson
from aiohttp import web

from forwarder.admin.client import SOCKET_NAME
from forwarder.admin.server import as_json
from forwarder.core.errors import (
    AbsentError,
    BadRequestError,
    ConfigError,
    ForwarderError,
    StateError,
)

Command: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Runs one command, JSON values in and out; a ``ForwarderError`` is the refusal to send back."""
Kind: TypeAlias = Callable[[Any], str]
"""Returns what a value should be if it is not, else an empty text."""

_LOGGER = logging.getLogger("forwarder.admin")
_LARGEST = 2**63 - 1
_STATUSES = {BadRequestError: 400, AbsentError: 404}


def text(value: Any) -> str:
    """Check a text that is not empty."""
    return "" if isinstance(value, str) and value else "must be a text"


def texts(value: Any) -> str:
    """Check a list of texts."""
    fits = isinstance(value, list | tuple) and not any(map(text, value))
    return "" if fits else "must be a list of texts"


def flag(value: Any) -> str:
    """Check true or false."""
    return "" if isinstance(value, bool) else "must be true or false"


def moment(value: Any) -> str:
    """Check microseconds since 1970; which of them are allowed is the journal's decision."""
    # bool is a kind of int in Python, and true is not a time.
    fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST
    return "" if fits else "must be microseconds since 1970"


def numbers(value: Any) -> str:
    """Check a list of numbers that can be in the journal."""
    fits = isinstance(value, list | tuple) and all(
        isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= _LARGEST for one in value
    )
    return "" if fits else "must be a list of numbers"


def checked(
    command: Command, required: Mapping[str, Kind], optional: Mapping[str, Kind] | None = None
) -> Command:
    """Return the command with a check of its arguments before it; others are passed over.

    An optional argument may be left out or null. The result raises ``BadRequestError``.
    """
    known = {**required, **(optional or {})}

    async def run(given: Mapping[str, Any]) -> Mapping[str, Any]:
        found = {name: given[name] for name in known if given.get(name) is not None}
        errors = [f"{name} is missing" for name in required if name not in found]
        wrong = {name: known[name](value) for name, value in found.items()}
        errors += [f"{name} {problem}" for name, problem in wrong.items() if problem]
        if errors:
            raise BadRequestError("; ".join(errors))
        return await command(found)

    return run


# The address of a Unix socket has 108 bytes on Linux and 104 on the BSDs, the final NUL included.
_LONGEST_PATH = 100
_MOST_BYTES = 1_000_000


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
        app = web.Application(client_max_size=_MOST_BYTES)
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
        try:
            given = orjson.loads(await request.read() or b"{}")
        except orjson.JSONDecodeError:
            status, content = _refusal(400, "the request is not valid JSON")
        else:
            name = request.match_info["command"]
            status, content = await carried_out(self._commands, name, given)
        return as_json(content, status)


async def carried_out(
    commands: Mapping[str, Command], name: str, given: Any
) -> tuple[int, Mapping[str, Any]]:
    """Carry out one of ``commands``; return a status as in HTTP, and the answer or ``errors``."""
    command = commands.get(name)
    if command is None:
        return _refusal(501, f"this daemon knows no command {name!r}; is it an older version?")
    try:
        return 200, await command(_object(given))
    except ConfigError as error:
        return _refusal(422, *(str(fault) for fault in error.faults))
    except ForwarderError as error:
        return _refusal(_STATUSES.get(type(error), 409), str(error))
    except Exception as error:
        # Answered here: aiohttp's own 500 is a text, which no command could show.
        _LOGGER.exception("the command %s failed", name)
        problem = f"the daemon failed at this ({type(error).__name__}); its log has the cause"
        return _refusal(500, problem)


def _object(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise BadRequestError("the request must be a JSON object")
    return given


def _refusal(status: int, *errors: str) -> tuple[int, Mapping[str, Any]]:
    return status, {"errors": errors}
