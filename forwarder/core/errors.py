"""Errors, named by what the caller must do.

    ForwarderError
    ├── ConfigError             stop before starting; exit 2
    ├── BadRequestError         correct the command; nothing was changed
    ├── StateError              the state folder or database cannot be used; nothing was changed
    │   ├── LockedError         another process holds it; exit 2
    │   ├── DamagedError        the journal is damaged; exit 1
    │   ├── AbsentError         correct the name: the journal has no such sink or lane
    │   └── FreeShardError      do it yourself: no replica has the shard; nothing was changed
    ├── PartlyDoneError         repeat the command for the shards that the message names; exit 3
    ├── TransientError          wait, then try the same thing again
    │   ├── NotTakingError      answer that nothing can be taken now; the other side comes again
    │   └── NeedsOperatorError  the same, slowly and loudly, until a person has fixed it
    ├── BatchRefusedError       refused whole, nobody says which event: bisect
    └── BatchTooLargeError      too many bytes at once: split

Foreign exceptions become one of these at the boundary where they are caught, with ``from``.
No message may hold a secret or a row.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class ForwarderError(Exception):
    """Anything that this program raises on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in the settings.

    ``path`` is where (``sinks.splunk.url``), ``problem`` what was found and what is allowed,
    ``hint`` the nearest right name or the next step, or empty.
    """

    path: str
    problem: str
    hint: str = ""

    def __str__(self) -> str:
        """Return one line: where, what, and what to do."""
        return f"{self.path}: {self.problem}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(ForwarderError):
    """The settings cannot be used; every fault is listed, not only the first."""

    def __init__(self, faults: Sequence[Fault] | str) -> None:
        """Take the faults, or one sentence that belongs to no key."""
        self.faults = (Fault("settings", faults),) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class BadRequestError(ForwarderError):
    """A command was given something that it cannot take; the message says what is allowed."""


class StateError(ForwarderError):
    """The state folder, or the journal's database, cannot be used as it is; nothing was changed."""


class LockedError(StateError):
    """Another process holds the state folder; the message says which."""


class DamagedError(StateError):
    """The journal is damaged; the message says what, where, and what to do."""


class AbsentError(StateError):
    """The journal has no sink or lane of that name, or nothing of what a command is about.

    Of several shards, those that raise it have nothing to do if another has something.
    """


class FreeShardError(StateError):
    """Nobody owns the shard of a shared journal, and the request to its owner was withdrawn."""


class PartlyDoneError(ForwarderError):
    """A command was carried out in some shards of a journal; the message says in which."""


class TransientError(ForwarderError):
    """Wait and try the same again.

    ``retry_after`` is the number of seconds the other side asked for, or None.
    ``hint`` tells a person what to look at, or is empty.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str = "") -> None:
        """Keep what was said and for how long to wait."""
        super().__init__(message)
        self.retry_after = retry_after
        self.hint = hint


# Transient, too: once a person has fixed it, work resumes without a restart.
class NeedsOperatorError(TransientError):
    """Only a person can fix this (token, permission, index): hold, say so, try again slowly."""


class NotTakingError(TransientError):
    """What is pushed cannot be stored at present; ``result`` is a word for the metrics."""

    def __init__(self, result: str, message: str) -> None:
        """Say why."""
        super().__init__(message)
        self.result = result


class BatchRefusedError(ForwarderError):
    """The destination refused the batch whole and did not say which event is at fault."""


class BatchTooLargeError(ForwarderError):
    """The batch has more bytes than the destination takes at once."""


def system_reason(error: Exception) -> str:
    """Return the system's text for ``error``, or its type: asyncio's text repeats the address."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else type(error).__name__


def unforeseen(error: BaseException) -> str:
    """Name an exception's type and the place where it was raised, never its text.

    The text of an exception that nobody translated may hold a URL with a token, or a row.
    """
    trace, place = error.__traceback__, ""
    while trace is not None:
        # The last frame is where it was raised; the first is only where it was caught.
        # File names repeat from folder to folder, so the folder belongs to the place.
        path = Path(trace.tb_frame.f_code.co_filename)
        place = f" at {path.parent.name}/{path.name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"
