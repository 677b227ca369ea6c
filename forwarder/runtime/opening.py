"""Which engine keeps the journal: the only module that knows, beside the journal package itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from forwarder.core.journal import Journal, JournalView, Keeping
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.journal.database import REMEDY, SqliteEngine
from forwarder.journal.journal import SqliteJournal, SqliteJournalView
from forwarder.journal.schema import check_fully

if TYPE_CHECKING:
    from forwarder.config import ForwarderSettings


async def open_journal(settings: ForwarderSettings, *, clock: Clock, emit: Emit) -> Journal:
    """Open the journal of the settings for this process alone.

    Raises ``ConfigError``, ``LockedError``, ``DamagedError``, ``StateError`` or
    ``TransientError``; nothing was changed then.
    """
    root = settings.root
    keeping = Keeping(root.journal.max_size, round(root.journal.keep_delivered * 1_000_000))
    return await SqliteJournal.open(root.state_dir, keeping, clock=clock, emit=emit)


def path_of(state_dir: Path) -> Path:
    """Return where the journal of a state folder is."""
    return SqliteEngine(state_dir).path


def open_view(state_dir: Path) -> JournalView:
    """Open a journal for reading, whether a daemon runs or not.

    Raises ``StateError`` if there is none, or one of another version, and ``DamagedError``.
    """
    return SqliteJournalView.open_view(state_dir)


def check_journal(state_dir: Path) -> tuple[Path, list[str], str]:
    """Read the whole journal; return where it is, every damage, and what helps against damage.

    Judges the file as ``run`` does. Raises as ``open_view``, but an older version is no fault.
    """
    engine = SqliteEngine(state_dir)
    return engine.path, list(check_fully(engine)), REMEDY
