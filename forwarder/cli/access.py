"""How a command reaches the settings, the running daemon and the journal.

What changes the journal goes through the daemon if one runs, and is done in this process if none
does. Reading works beside a daemon and without one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from forwarder.cli.terminal import tell
from forwarder.core.errors import ConfigError, LockedError, TransientError

if TYPE_CHECKING:
    from forwarder.config.models import ForwarderSettings, JournalSettings
    from forwarder.core.journal import JournalView, LaneRecord

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """What a command needs to find a journal and the daemon that has it.

    ``settings`` is None if the file has faults beside ``state_dir`` and ``journal``.
    """

    state_dir: Path
    journal: JournalSettings
    labels: Mapping[str, str]
    sinks: Collection[str]
    settings: ForwarderSettings | None = None
    faults: ConfigError | None = None

    @property
    def shared(self) -> bool:
        """True if the journal is in a database that replicas share."""
        return self.journal.type != "sqlite"


def place_from(path: Path) -> Place:
    """Return where the journal is, also if other parts of the settings have faults.

    A daemon keeps running with its old settings when the file is broken, and its operator needs to
    see and act. Raises ``ConfigError`` if the file is unreadable or ``state_dir`` is at fault.
    """
    from forwarder.config.loading import load_place  # noqa: PLC0415 - imports pydantic

    try:
        settings = settings_from(path)
    except ConfigError as error:
        root, labels, sinks = load_place(path, os.environ)
        # The daemon, if one runs, still has the settings of its last start or reload.
        count = len(error.faults)
        tell(
            f"forwarder: {path} has {count} fault(s); only state_dir and journal are used. "
            "`forwarder check` lists them"
        )
        return Place(root.state_dir, root.journal, labels, sinks, faults=error)
    sinks = [sink.name for sink in settings.sinks]
    labels = {account.account_id: account.label for account in settings.accounts}
    return Place(settings.root.state_dir, settings.root.journal, labels, sinks, settings)


def settings_from(path: Path) -> ForwarderSettings:
    """Read the settings; raises ``ConfigError`` with every fault."""
    from forwarder.config.loading import load  # noqa: PLC0415 - imports pydantic and the plugins

    return load(path, os.environ)


def status_of(place: Place) -> Any:
    """Return the status of the running daemon, or of the replicas that own a shared journal.

    Raises ``NoDaemonError`` if none runs.
    """
    from forwarder.admin.client import NoDaemonError, ask  # noqa: PLC0415 - keeps --help fast

    mine = None
    try:
        mine = ask(place.state_dir, "status")
    except NoDaemonError:
        if not place.shared:
            raise
    # One of several replicas sees its own shards only.
    if mine is not None and len(mine.get("shards", ())) <= 1:
        return mine
    from forwarder.runtime import anywhere  # noqa: PLC0415 - imports everything

    try:
        return anywhere.status(place.journal, mine)
    except TransientError:
        if mine is None:
            raise
        return mine


def progress_of(place: Place) -> Any:
    """Return the status of whoever works on the journal; raises if nobody works on a shard."""
    if not place.shared:
        return status_of(place)
    from forwarder.runtime import anywhere  # noqa: PLC0415 - imports everything

    return anywhere.status(place.journal, patient=True)


def carry_out(place: Place, name: str, given: Mapping[str, Any]) -> Any:
    """Have an operation carried out by the running daemon, or do it here if none runs.

    The owners of a shared journal do it, wherever they run. Raises ``ConfigError`` if no daemon
    runs and the settings have faults.
    """
    from forwarder.admin.client import NoDaemonError, ask  # noqa: PLC0415 - keeps --help fast

    # Not by a standby's socket: asking twice, after it did not answer in time, could do it twice.
    if not place.shared:
        try:
            return ask(place.state_dir, name, given)
        except NoDaemonError:
            if place.settings is None:
                raise place.faults or RuntimeError from None
    from forwarder.runtime import anywhere  # noqa: PLC0415 - imports everything

    return anywhere.carry_out(place.journal, place.settings, name, given, place.labels)


def rows_of(place: Place, begun: Mapping[str, Any]) -> Any:
    """Return ``lane`` and the ``rows`` that a backfill has stored; ``begun`` was its answer."""
    from forwarder.admin.client import ask  # noqa: PLC0415 - keeps --help fast

    if place.shared:
        return _ask_owners(place, "backfill-rows", begun)
    return ask(place.state_dir, "backfill-rows", begun)


def _ask_owners(place: Place, name: str, given: Mapping[str, Any]) -> Any:
    from forwarder.runtime import anywhere  # noqa: PLC0415 - imports everything

    return anywhere.ask_owners(place.journal, name, given, place.labels)


def backfill(
    place: Place,
    settings: ForwarderSettings,
    order: Mapping[str, Any],
    *,
    detach: bool,
    watch: Callable[[Mapping[str, Any]], None],
) -> tuple[Any, bool]:
    """Begin a backfill; without a daemon, carry it out here, and call ``watch`` with each status.

    Returns the answer, and True if a daemon has taken the backfill over. Raises ``NoDaemonError``
    if ``detach`` is wanted and no daemon runs.
    """
    from forwarder.admin.client import NoDaemonError, ask  # noqa: PLC0415 - keeps --help fast

    if not place.shared:
        try:
            return ask(place.state_dir, "backfill", order), True
        except NoDaemonError:
            # Nobody would be there to do the work after this process.
            if detach:
                raise
    from forwarder.runtime import anywhere  # noqa: PLC0415 - imports everything

    try:
        if not detach:
            return anywhere.backfill(settings, order, watch), False
    except LockedError:
        if not place.shared:
            raise
    return _ask_owners(place, "backfill", order), True


def sinks_of(place: Place) -> set[str]:
    """Return the sinks that the settings or the journal know."""
    return {*place.sinks, *(name for lane in lanes_of(place) for name in lane.sinks)}


def lanes_of(place: Place) -> Sequence[LaneRecord]:
    """Return every lane of the journal; none if there is no journal yet."""
    known = place.shared or (place.state_dir / "journal.db").exists()
    return read(place, lambda view: view.lanes()) if known else []


def read(place: Place, question: Callable[[JournalView], Awaitable[T]]) -> T:
    """Ask the journal something, read-only, whether a daemon runs or not."""
    # Engines let others read beside the writer: no daemon has to be asked.
    from forwarder.runtime.opening import open_view  # noqa: PLC0415 - keeps --help fast

    async def asked() -> T:
        view = open_view(place.state_dir, place.journal)
        try:
            return await question(view)
        finally:
            await view.aclose()

    return asyncio.run(asked())
