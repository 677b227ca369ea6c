"""Opens the journal of the settings: the only module outside the journal that knows its engine.

The journal's lock is in the state folder. Whoever removes the folder removes the lock, and a second
process would start on a new folder of the same path. So the path itself is claimed too.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import stat
import struct
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    asynccontextmanager,
    closing,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

from forwarder.core.errors import (
    ConfigError,
    DamagedError,
    Fault,
    LockedError,
    NeedsOperatorError,
    StateError,
    TransientError,
)
from forwarder.core.journal import Journal, JournalView, Keeping
from forwarder.core.lease import Fleet, Identity, Lease, ShardOwner
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock, format_seconds
from forwarder.journal import copying, sqlite
from forwarder.journal.database import REMEDY, SqliteEngine, StateLock
from forwarder.journal.schema import check_contents, check_fully
from forwarder.runtime.shards import ShardViews

if TYPE_CHECKING:
    from forwarder.config import ForwarderSettings, JournalSettings
    from forwarder.journal.postgres import Database
    from forwarder.journal.tables import Tables

_CREDENTIALS = struct.Struct("3i")


async def open_journal(
    settings: ForwarderSettings, lease: Lease | None, *, clock: Clock, emit: Emit
) -> Journal:
    """Open the journal of the settings for this process alone; a shared one by its ``lease``.

    Raises ``ConfigError``, ``LockedError``, ``DamagedError``, ``StateError`` or
    ``TransientError``; nothing was changed then.
    """
    root = settings.root
    keeping = Keeping(root.journal.max_size, round(root.journal.keep_delivered * 1_000_000))
    if lease is not None:
        return await lease.open(keeping, clock=clock, emit=emit)
    return await sqlite.SqliteJournal.open(root.state_dir, keeping, clock=clock, emit=emit)


@asynccontextmanager
async def fleet_of(settings: ForwarderSettings, *, clock: Clock) -> AsyncIterator[Fleet | None]:
    """Give the replicas that share the journal; None for a journal that nobody shares.

    This replica leaves with the end of the block. Raises ``ConfigError``, ``LockedError`` for
    a state folder in use, and ``StateError`` for a database without the journal's tables.
    """
    root = settings.root
    if root.journal.type == "sqlite":
        yield None
        return
    # Two replicas on one host need two folders: the control socket is in there.
    lock = StateLock(root.state_dir, clock.now_us())
    try:
        database = _database(root.journal)
        from forwarder.journal.fleet import SqlFleet  # noqa: PLC0415 - an extra

        fleet = SqlFleet(database, _owner(), root.journal.lease, identity_of(settings))
        try:
            with suppress(TransientError), _faults():  # if it is away, the replica waits for it
                older = await fleet.check()
                # The tables are theirs for now: this program may not know them.
                if not older:
                    owners, _ = await asyncio.to_thread(shards_of, root.journal)
                    require_shards(root.journal, len(owners))
            yield fleet
        finally:
            await fleet.aclose()
    finally:
        lock.release()


@asynccontextmanager
async def asking(
    journal: JournalSettings,
) -> AsyncIterator[tuple[Fleet, Sequence[ShardOwner], Mapping[str, int]]]:
    """Give the replicas that share a journal to a process that only asks them for something.

    With them come the shards of the journal with their owners, and the shard of each account that
    has one. Raises as ``shards_of``.
    """
    owners, placed = await asyncio.to_thread(shards_of, journal)
    with _faults():
        database = _database(journal)
        from forwarder.journal.fleet import SqlFleet  # noqa: PLC0415 - an extra

        fleet = SqlFleet(database, "", journal.lease)
        try:
            yield fleet, owners, placed
        finally:
            await fleet.aclose()


def identity_of(settings: ForwarderSettings) -> Identity:
    """Return what the replicas with these settings have in common."""
    accounts = {one.account_id: one.credential for one in settings.accounts}
    return Identity(settings.root.journal.fleet, accounts)


def check_fleet(settings: ForwarderSettings) -> None:
    """Raise ``ConfigError``, ``StateError`` or ``TransientError`` if a replica could not work."""
    with _faults(), _tables(settings.root.journal) as tables:
        tables.check_live(identity_of(settings))
        require_shards(settings.root.journal, len(tables.owners()))


@contextmanager
def _tables(journal: JournalSettings) -> Iterator[Tables]:
    database = _database(journal)
    from forwarder.journal.tables import Tables  # noqa: PLC0415 - an extra

    with closing(Tables(database)) as tables:
        yield tables


def _owner() -> str:
    """Return the name of this process for other hosts."""
    return f"{socket.gethostname()}:{os.getpid()}"


@contextmanager
def _faults() -> Iterator[None]:
    """Turn what only a person can correct about the database into a fault of the settings."""
    try:
        yield
    except NeedsOperatorError as error:
        raise ConfigError([Fault("journal", str(error), error.hint)]) from error


Kept: TypeAlias = "tuple[Path, JournalSettings]"
"""A state folder, and the settings of its journal."""


def copy_journal(source: Kept, target: Kept, *, clock: Clock) -> copying.Copied:
    """Copy a stopped journal into an empty one, and put the source aside; see ``copying.copy``.

    Raises ``ConfigError`` if the settings do not fit that, ``LockedError`` while a process works
    on one of them, ``DamagedError`` or ``TransientError``; the source is as it was then.
    """
    if _identity_of(source) == _identity_of(target):
        raise ConfigError([Fault("journal", "both settings name the same journal")])
    at = re.sub("[^0-9TZ]", "", format_seconds(clock.now_us()))
    try:
        with _faults(), _stopped(source, clock) as old, _stopped(target, clock, new=True) as new:
            return copying.copy(old, new, at)
    except (LockedError, DamagedError):
        raise
    except StateError as error:
        raise ConfigError([Fault("journal", str(error))]) from error


def _identity_of(kept: Kept) -> tuple[str, str]:
    state_dir, journal = kept
    dsn = journal.dsn.reveal() if journal.dsn is not None else ""
    return (dsn, journal.schema_) if dsn else (str(state_dir.resolve()), "")


def _stopped(
    kept: Kept, clock: Clock, *, new: bool = False
) -> AbstractContextManager[copying.Stopped]:
    state_dir, journal = kept
    if journal.type == "sqlite":
        return sqlite.stopped(state_dir, clock.now_us(), new=new)
    database = _database(journal)
    from forwarder.journal.fleet import stopped  # noqa: PLC0415 - an extra

    return stopped(database, _owner(), journal.lease)


class Created(NamedTuple):
    """How many shards were added, and the older replicas that keep the tables from an upgrade."""

    shards: int
    older: Sequence[str]


def create_journal(journal: JournalSettings) -> Created:
    """Make what is missing of a shared journal's schemas, and upgrade what is old.

    Raises ``ConfigError`` if the role may not, ``TransientError``, and ``StateError`` if shards
    would have to go, or to come while a replica works.
    """
    with _faults():
        database = _database(journal)
        from forwarder.journal.fleet import Leases  # noqa: PLC0415 - an extra
        from forwarder.journal.tables import create  # noqa: PLC0415 - an extra

        with closing(Leases(database, _owner(), journal.lease)) as leases:
            older = leases.upgrade()
        added = 0 if older else create(database, journal.shards)
        return Created(added, older)


def statements_of(journal: JournalSettings) -> Iterator[str]:
    """Give the SQL of ``create_journal`` for an empty database, for whoever may run it."""
    database = _database(journal)
    from forwarder.journal.tables import statements  # noqa: PLC0415 - an extra

    return statements(database, journal.shards)


def shards_of(journal: JournalSettings) -> tuple[Sequence[ShardOwner], Mapping[str, int]]:
    """Return who owns the shards of a shared journal, and the shard of each account.

    Raises ``ConfigError``, ``StateError`` for tables that this program does not know, and
    ``TransientError``.
    """
    with _faults(), _tables(journal) as tables:
        tables.check()
        return tables.owners(), tables.placed()


def require_shards(journal: JournalSettings, found: int) -> None:
    """Raise ``ConfigError`` unless the settings name the number of shards that the journal has."""
    if found == journal.shards:
        return
    problem = f"shards is {journal.shards}, but the journal in schema {journal.schema_} has {found}"
    hint = f"shards cannot be removed: set it to {found}"
    if found < journal.shards:
        hint = f"stop all replicas and run `forwarder journal create`, or set it to {found}"
    raise ConfigError([Fault("journal", problem, hint)])


def _database(journal: JournalSettings) -> Database:
    """Return the database of the settings; raises ``ConfigError`` if they name none.

    Called before anything else of its engine is imported: nothing of it is loaded for SQLite.
    """
    try:
        from forwarder.journal import postgres  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        hint = "pip install 'cloudflare-access-forwarder[postgres]'"
        raise ConfigError([Fault("journal.type", "psycopg is not installed", hint)]) from error

    def conninfo() -> str:
        dsn = journal.dsn.reveal() if journal.dsn is not None else ""
        if journal.password is None:
            return dsn
        return postgres.with_password(dsn, journal.password.reveal())

    database = postgres.Database(conninfo, journal.schema_, journal.pooler)
    try:
        with _faults():
            database.arguments()
    except StateError as error:
        raise ConfigError([Fault("journal", str(error))]) from error
    return database


def check_address(journal: JournalSettings) -> None:
    """Raise ``ConfigError`` if a shared journal can be reached by nobody; connects to nothing."""
    if journal.type == "postgres":
        _database(journal)


def path_of(state_dir: Path) -> Path:
    """Return where the journal of a state folder is."""
    return SqliteEngine(state_dir).path


def open_view(state_dir: Path, journal: JournalSettings) -> JournalView:
    """Open a journal for reading, all of its shards, whether a daemon runs or not.

    Raises ``StateError`` if there is none, or one of another version, ``DamagedError``, and as
    ``shards_of``.
    """
    if journal.type == "sqlite":
        return sqlite.open_view(state_dir)
    owners, placed = shards_of(journal)
    database = _database(journal)
    from forwarder.journal import fleet  # noqa: PLC0415 - an extra

    views = {one.shard: fleet.open_view(database, one.shard) for one in owners}
    return ShardViews(views, placed) if len(views) > 1 else views[0]


def check_journal(state_dir: Path, journal: JournalSettings) -> tuple[str, list[str], str]:
    """Read the whole journal; return where it is, every damage, and what helps against damage.

    Judges a file as ``run`` does. Raises as ``open_view``, but an older version is no fault.
    """
    if journal.type == "sqlite":
        engine = SqliteEngine(state_dir)
        return str(engine.path), list(check_fully(engine)), REMEDY
    owners, _ = shards_of(journal)
    database = _database(journal)
    from forwarder.journal.postgres import PostgresEngine  # noqa: PLC0415 - an extra

    engines = [PostgresEngine(database, one.shard) for one in owners]
    damages = [damage for engine in engines for damage in check_contents(engine)]
    return f"schema {journal.schema_}", damages, "restore the database from a backup"


class StateFolder:
    """Claims the path of a state folder, and watches the folder while its journal is open."""

    def __init__(self, path: Path) -> None:
        """Look at nothing yet."""
        self._path = path
        self._claim: socket.socket | None = None
        self._journal: Path | None = None
        self._identity: tuple[int, int] | None = None
        self._trouble: TransientError | None = None

    def __enter__(self) -> Self:
        """Claim the path before the journal is opened.

        Raises ``LockedError`` if a process of this user runs on a folder that was here before.
        """
        # While there is a lock, it is the better judge: it names the holder and its host.
        if not (self._path / "lock").exists():
            self._claim_path()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the path back."""
        if self._claim is not None:
            self._claim.close()

    def opened(self, journal: Path) -> None:
        """Note the file that was opened: from now on it must not be removed or replaced."""
        self._claim_path()
        self._journal, self._identity = journal, _identity(journal)

    def look(self) -> None:
        """Set ``trouble``; blocks as long as the file system does."""
        gone = self._journal is not None and _identity(self._journal) != self._identity
        self._trouble = _gone(self._path) if gone else None

    @property
    def trouble(self) -> TransientError | None:
        """What the latest look has found: the journal is gone; None if all is well."""
        return self._trouble

    def warnings(self) -> tuple[str, ...]:
        """Return a sentence if the folder has the journal and is open to others."""
        if self._journal is None:
            return ()
        mode = stat.S_IMODE(self._path.stat().st_mode)
        if not mode & 0o077:
            return ()
        reason = "other users can reach the journal, which holds rows as received"
        return (f"state_dir: {self._path} has mode {mode:04o}: {reason}; chmod 700 {self._path}",)

    def _claim_path(self) -> None:
        """Bind a name that stands for the path, if the system has such names."""
        if self._claim is not None:
            return
        try:
            parent = self._path.absolute().parent.stat()
        except OSError:
            return  # not there yet, so nobody can have removed a folder in it
        # By the parent's identity: containers that share a network have their own folders at equal
        # paths and must not meet. The name is abstract: no file that could be removed as well.
        name = f"\0forwarder/{parent.st_dev}/{parent.st_ino}/{self._path.name}"
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(name)
            claim.listen(1)
        except OSError as error:
            claim.close()
            holder = _holder(name) if error.errno == errno.EADDRINUSE else None
            if holder is not None:
                raise LockedError(
                    f"state_dir {self._path} is in use by process {holder}, which runs on a folder"
                    " of this path that was removed or replaced; stop that process first"
                ) from error
        else:
            self._claim = claim


def _holder(name: str) -> int | None:
    """Return the process that holds a name; None if it is another user's, or gone by now."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(1.0)
        try:
            asking.connect(name)
            packed = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
    process, user, _ = _CREDENTIALS.unpack(packed)
    # Anybody may take any name; a folder of mode 0700 is used by one user only.
    return process if user == os.geteuid() else None


def _gone(path: Path) -> TransientError:
    return TransientError(
        f"the state folder {path} was removed or replaced: what is stored from now on is lost when"
        " the forwarder stops",
        hint="put the folder back as it was, or restart the forwarder",
    )


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
