"""The arguments of a command: each is checked before anything of the command is done.

They are JSON from a process of the same user: most likely a command of this program, perhaps of
another version, perhaps somebody's own script.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from forwarder.core.errors import ForwarderError

Command: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Runs one command, JSON values in and out; a ``ForwarderError`` is the refusal to send back."""
Kind: TypeAlias = Callable[[Any], str]
"""Returns what a value should be if it is not, else an empty text."""

_LARGEST = 2**63 - 1
# The year 9999 begins. Windows reach a little beyond their ends, and no clock beyond that year.
_LATEST_US = 253_370_764_800_000_000


class ArgumentError(ForwarderError):
    """Arguments are missing or cannot be used; nothing was done."""

    def __init__(self, errors: list[str]) -> None:
        """Keep one sentence for each argument."""
        super().__init__("; ".join(errors))
        self.errors = errors


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
    """Check microseconds since 1970."""
    # bool is a kind of int in Python, and true is no moment.
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LATEST_US
    return "" if fits else f"must be microseconds since 1970, 0 to {_LATEST_US}"


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

    An optional argument may be left out or null. The result raises ``ArgumentError``.
    """
    known = {**required, **(optional or {})}

    async def run(given: Mapping[str, Any]) -> Mapping[str, Any]:
        found = {name: given[name] for name in known if given.get(name) is not None}
        errors = [f"{name} is missing" for name in required if name not in found]
        wrong = {name: known[name](value) for name, value in found.items()}
        errors += [f"{name} {problem}" for name, problem in wrong.items() if problem]
        if errors:
            raise ArgumentError(errors)
        return await command(found)

    return run
