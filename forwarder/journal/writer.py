"""The one thread that writes: operations are grouped into transactions, each with one sync."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from forwarder.core.errors import TransientError
from forwarder.core.log import JournalCommitted
from forwarder.journal.storage import Engine, Session

T = TypeVar("T")
Operation = Callable[[Session], T]


_GROUP = 64
PATIENCE = 0.05


class _Job:
    """An operation, who waits for it, and what became of it."""

    __slots__ = ("_error", "_future", "_operation", "_result", "loop", "patient")

    def __init__(self, operation: Operation[Any], *, patient: bool) -> None:
        self._operation = operation
        self.patient = patient
        self.loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Any] = self.loop.create_future()
        self._result: Any = None
        self._error: BaseException | None = None

    def attempt(self, session: Session) -> None:
        """Run the operation and keep its result."""
        self._result = self._operation(session)

    def fail(self, error: BaseException) -> None:
        """Keep what went wrong; the first error is the one that explains."""
        self._error = self._error or error

    @property
    def error(self) -> BaseException | None:
        """Return what went wrong, or None."""
        return self._error

    async def outcome(self) -> Any:
        """Wait in the caller's loop; cancelling the caller does not undo the operation."""
        return await asyncio.shield(self._future)

    def settle(self) -> None:
        """Wake the caller; runs in its loop."""
        if self._future.done():
            return
        if self._error is not None:
            self._future.set_exception(self._error)
            self._future.exception()  # a caller that went away must not cause a warning
        else:
            self._future.set_result(self._result)


class Writer:
    """Runs operations in order, several to a transaction.

    An operation sees what the ones before it wrote. If one fails it alone is undone; if the
    commit fails all of its group are, and every caller gets the error. ``on_rollback`` is called in
    the writer's thread after anything was undone, so that caches above can be dropped;
    ``emit`` in a caller's loop after each transaction.
    """

    def __init__(
        self,
        session: Session,
        engine: Engine,
        on_rollback: Callable[[], None],
        emit: Callable[[JournalCommitted], None] = lambda _: None,
        patience: float = PATIENCE,
    ) -> None:
        """Take over a session and start the thread; ``patience`` is in seconds."""
        self._engine = engine
        self._session = session
        self._on_rollback = on_rollback
        self._emit = emit
        self._patience = patience
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._closed = False
        self._trouble: TransientError | None = None
        self._thread.start()

    @property
    def trouble(self) -> TransientError | None:
        """Return why nothing can be written, until something was."""
        return self._trouble

    async def run(self, operation: Operation[T], *, patient: bool = False) -> T:
        """Run ``operation(session)`` inside a transaction; return once it is durable.

        A ``patient`` operation may wait up to 50 ms for company, so that acknowledgements share
        a sync. Cancelling the caller does not undo the operation. Raises what the operation
        raised, ``TransientError`` for a full or failing disk, ``DamagedError`` for damage.
        """
        if self._closed:
            raise TransientError("the journal is closed")
        job = _Job(operation, patient=patient)
        self._jobs.put(job)
        result: T = await job.outcome()
        return result

    async def aclose(self) -> None:
        """Finish what was handed in, then close; idempotent."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        # The last commit may wait for the disk; the loop must not.
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (jobs := self._gather()) is not None:
            # A group that only read says nothing about whether the disk takes writes again.
            before, began = self._session.changes, time.monotonic()
            self._commit(jobs)
            took = JournalCommitted(time.monotonic() - began)
            jobs[0].loop.call_soon_threadsafe(self._emit, took)
            self._remember(jobs, changed=self._session.changes > before)
            # Tests run several loops in one process; a future belongs to the loop that made it.
            for loop in {job.loop for job in jobs}:
                loop.call_soon_threadsafe(_settle, [job for job in jobs if job.loop is loop])
        self._session.close()

    def _gather(self) -> list[_Job] | None:
        """Return the next group, or None when there is nothing more to come."""
        job = self._jobs.get()
        if job is None:
            return None
        jobs, until = [job], time.monotonic() + self._patience
        while len(jobs) < _GROUP:
            # One caller in a hurry makes the whole group go.
            patient = all(waiting.patient for waiting in jobs)
            try:
                timeout = max(0.0, until - time.monotonic()) if patient else 0.0
                job = self._jobs.get(timeout=timeout) if timeout else self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                # What was handed in before the end is still written; the next call sees the end.
                self._jobs.put(None)
                break
            jobs.append(job)
        return jobs

    def _commit(self, jobs: Sequence[_Job]) -> None:
        try:
            with self._engine.translated():
                self._session.begin()
                for job in jobs:
                    self._attempt(job)
                self._session.commit()
        except Exception as error:  # noqa: BLE001 - whatever it was, every caller must get it
            self._session.rollback()
            self._on_rollback()
            for job in jobs:
                job.fail(error)

    def _attempt(self, job: _Job) -> None:
        # So that one failing operation does not take the others of its group with it.
        self._session.execute("SAVEPOINT job")
        try:
            with self._engine.translated():
                job.attempt(self._session)
        except Exception as error:
            job.fail(error)
            if self._session.in_transaction:
                self._session.execute("ROLLBACK TO job")
            self._on_rollback()
            if not self._session.in_transaction:  # a full disk may undo the whole of it
                raise
        self._session.execute("RELEASE job")

    def _remember(self, jobs: Sequence[_Job], *, changed: bool) -> None:
        """Keep the trouble of a full or failing disk; reading alone does not end it."""
        troubles = [job.error for job in jobs if isinstance(job.error, TransientError)]
        if troubles:
            self._trouble = troubles[0]
        elif changed:
            self._trouble = None


def _settle(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        job.settle()
