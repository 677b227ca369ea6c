"""The one thread that writes: operations are grouped into transactions, each with one sync."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from forwarder.core.errors import TransientError
from forwarder.journal.database import translated

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

_GROUP = 64
_PATIENCE = 0.05


class _Job:
    """An operation, who waits for it, and what became of it."""

    __slots__ = ("error", "future", "loop", "operation", "patient", "result")

    def __init__(self, operation: Operation[Any], *, patient: bool) -> None:
        self.operation = operation
        self.patient = patient
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None


class Writer:
    """Runs operations in order, several to a transaction.

    An operation sees what the ones before it wrote. If one fails it alone is undone; if the
    commit fails all of its group are, and every caller is told. ``on_rollback`` is called in the
    writer's thread after anything was undone, so that caches above can be dropped.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, on_rollback: Callable[[], None]
    ) -> None:
        """Take over a connection and start the thread; ``path`` is for messages."""
        self._path = path
        self._connection = connection
        self._on_rollback = on_rollback
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._closed = False
        self.trouble: TransientError | None = None
        """Why nothing can be written, until something was; set in the thread, read anywhere."""
        self._thread.start()

    async def run(self, operation: Operation[T], *, patient: bool = False) -> T:
        """Run ``operation(connection)`` inside a transaction; return once it is on disk.

        A ``patient`` operation may wait up to 50 ms for company, so that acknowledgements share
        a sync. Cancelling the caller does not undo the operation. Raises what the operation
        raised, ``TransientError`` for a full or failing disk, ``DamagedError`` for damage.
        """
        if self._closed:
            raise TransientError("the journal is closed")
        job = _Job(operation, patient=patient)
        self._jobs.put(job)
        result: T = await asyncio.shield(job.future)
        return result

    async def aclose(self) -> None:
        """Finish what was handed in, then close; idempotent."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (jobs := self._gather()) is not None:
            before = self._connection.total_changes
            self._commit(jobs)
            self._remember(jobs, changed=self._connection.total_changes > before)
            for loop in {job.loop for job in jobs}:
                loop.call_soon_threadsafe(_settle, [job for job in jobs if job.loop is loop])
        self._connection.close()

    def _gather(self) -> list[_Job] | None:
        """Return the next group, or None when there is nothing more to come."""
        job = self._jobs.get()
        if job is None:
            return None
        jobs, until = [job], time.monotonic() + _PATIENCE
        while len(jobs) < _GROUP:
            patient = all(waiting.patient for waiting in jobs)
            try:
                timeout = max(0.0, until - time.monotonic()) if patient else 0.0
                job = self._jobs.get(timeout=timeout) if timeout else self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            jobs.append(job)
        return jobs

    def _commit(self, jobs: Sequence[_Job]) -> None:
        try:
            with translated(self._path):
                self._connection.execute("BEGIN IMMEDIATE")
                for job in jobs:
                    self._attempt(job)
                self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it was, every caller must hear of it
            self._undo("ROLLBACK")
            for job in jobs:
                job.error = job.error or error

    def _attempt(self, job: _Job) -> None:
        self._connection.execute("SAVEPOINT job")
        try:
            with translated(self._path):
                job.result = job.operation(self._connection)
        except Exception as error:
            job.error = error
            self._undo("ROLLBACK TO job")
            if not self._connection.in_transaction:  # a full disk may undo the whole of it
                raise
        self._connection.execute("RELEASE job")

    def _remember(self, jobs: Sequence[_Job], *, changed: bool) -> None:
        """Keep the trouble of a full or failing disk; reading alone does not end it."""
        troubles = [job.error for job in jobs if isinstance(job.error, TransientError)]
        if troubles:
            self.trouble = troubles[0]
        elif changed:
            self.trouble = None

    def _undo(self, statement: str) -> None:
        if self._connection.in_transaction:
            self._connection.execute(statement)
        self._on_rollback()


def _settle(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
            job.future.exception()
        else:
            job.future.set_result(job.result)
