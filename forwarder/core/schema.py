"""The common schema: what happened, in three kinds of event that every format understands.

    Login         somebody logged in to an application, or was refused      (``access_requests``)
    Provisioning  an identity provider changed a user or a group by SCIM    (``scim_updates``)
    OwnEvent      the forwarder itself: start, stop, gap, late rows, ...    (``forwarder``)

A *text* is a ``str`` that is never None: empty means that the row has none. A value that is not
what its key promises is kept as received in ``extra`` and its key is named in ``quality``; nothing
is ever guessed. Where the row has no usable time, ``quality`` has ``time`` and the event has the
time it was first seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, Protocol, TypeAlias

from forwarder.core.login import Login
from forwarder.core.origin import Origin
from forwarder.core.provisioning import Provisioning

MALFORMED_KEY = "_forwarder_malformed"
"""In a row that could not be read: why. Such an event has the quality ``malformed``."""
RAW_BYTES_KEY = "_forwarder_raw_base64"
"""In a row that could not be read: the bytes as received, base64."""


class OwnEvent(NamedTuple):
    """Something the forwarder says about itself; see ``forwarder.core.own_events``.

    ``about_stream`` and ``about_sink`` say which stream and sink it is about; ``since`` and
    ``until`` are RFC 3339, ``rows`` is None when nobody knows.
    """

    origin: Origin
    id: str
    time_us: int
    row: Mapping[str, Any]
    action: str
    outcome: str
    quality: tuple[str, ...]
    extra: Mapping[str, Any]
    about_stream: str
    about_sink: str
    reason: str
    since: str
    until: str
    rows: int | None
    detail: str
    version: str

    @property
    def shape(self) -> None:
        """Return None: such events are rare; see ``forwarder.core.login.Login``."""
        return

    @property
    def user(self) -> str:
        """Return nothing: it is about no person."""
        return ""


Event: TypeAlias = Login | Provisioning | OwnEvent

Normalise: TypeAlias = Callable[[Mapping[str, Any], Origin, str, int], Event]
"""From (row, origin, id as 32 hex digits, time in microseconds) to an event. Pure and total."""


class Glimpse(NamedTuple):
    """What a sink wants to know of each row beside the body: one list each, a value a row."""

    accounts: Iterable[str]
    outcomes: Sequence[str]
    users: Sequence[str]


Glance: TypeAlias = Callable[[Sequence[Mapping[str, Any]], Origin], Glimpse]
"""From rows to what their events would say about themselves, without making the events."""


Reading: TypeAlias = tuple[tuple[Any, ...] | None, tuple[str, ...], str]
"""What an event would have as ``shape`` and ``fillings``, and the members of what is extra.

The shape is None where it takes an event to say more. The members are JSON without the braces.
"""

NOT_READ: Reading = (None, (), "")
"""What ``ReadRows`` says about a row that takes an event."""


class ReadRows(Protocol):
    """From a page's rows to what their events would have, without making the events.

    Events of rows that can be read so have the page's origin, and ``core.masking.mask_row(row)``
    as their row.
    """

    def __call__(
        self,
        rows: Sequence[Mapping[str, Any]],
        origin: Origin,
        times_us: Sequence[int],
        *,
        bodies: bool,
    ) -> Iterable[Reading]:
        """Return a reading for each row; without ``bodies``, as if no row had one of SCIM."""


def read_nothing(
    rows: Sequence[Mapping[str, Any]],
    origin: Origin,  # noqa: ARG001 - a row's reading has nothing of these
    times_us: Sequence[int],  # noqa: ARG001
    *,
    bodies: bool,  # noqa: ARG001
) -> Iterable[Reading]:
    """Say of every row that it takes an event."""
    return repeat(NOT_READ, len(rows))


class Normaliser(NamedTuple):
    """How the rows of one stream become events; a source has one a stream.

    ``keys`` are the keys that rows are known to have, empty where nobody can tell.
    """

    normalise: Normalise
    glance: Glance
    read_rows: ReadRows = read_nothing
    keys: frozenset[str] = frozenset()
