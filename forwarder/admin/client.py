"""How a command asks the daemon that holds a state folder.

Imports nothing large: a command must start fast, and needs no web server to ask one.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import orjson

from forwarder.core.errors import ForwarderError

SOCKET_NAME = "control.sock"
"""The control socket's name inside the state folder."""


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

    Raises ``NoDaemonError`` if none answers within ``wait`` seconds, and ``RefusedError`` if it
    refuses the command.
    """
    connection = _UnixConnection(state_dir / SOCKET_NAME, wait)
    try:
        connection.request("POST", f"/{command}", orjson.dumps(dict(arguments or {})))
        answer = connection.getresponse()
        content = _object(answer.read())
    except ValueError as error:
        problem = f"the daemon in {state_dir} answers no JSON object; is it this program?"
        raise RefusedError([problem]) from error
    except (OSError, HTTPException) as error:
        late = f"nothing within {wait:.0f} s" if isinstance(error, TimeoutError) else ""
        reason = late or getattr(error, "strerror", None) or type(error).__name__
        problem = f"no daemon answers in {state_dir}: {reason}"
        raise NoDaemonError(f"{problem} (does `forwarder run` use these settings?)") from error
    finally:
        connection.close()
    if answer.status >= 400:  # noqa: PLR2004 - HTTP's own line between success and failure
        raise RefusedError([str(reason) for reason in content.get("errors") or ("no reason",)])
    return content


def _object(text: bytes) -> Mapping[str, Any]:
    """Return the JSON object of an answer; raises ``ValueError`` for anything else."""
    found = orjson.loads(text)
    if isinstance(found, dict):
        return found
    raise ValueError("no object")


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, wait: float) -> None:
        super().__init__("localhost", timeout=wait)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
