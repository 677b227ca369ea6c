"""Mistakes at the fence, planted one at a time: a test of the fence must find each."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest

from forwarder.journal.postgres import PostgresSession
from forwarder.journal.writer import Writer, _Job  # the plant's point of attack
from tests.integration import test_fence
from tests.integration.postgres_opener import PostgresOpener
from tests.integration.postgresql import Postgresql
from tests.proof.followed import FAULTS, Followed

pytestmark = [pytest.mark.integration, pytest.mark.proof]
Plant = Callable[[pytest.MonkeyPatch], None]
Finder = Callable[[PostgresOpener], Awaitable[None]]


@pytest.fixture
def opener(server: Postgresql) -> Iterator[PostgresOpener]:
    opener = PostgresOpener(server.dsn)
    yield opener
    opener.discard()


def no_fence(patch: pytest.MonkeyPatch) -> None:
    _change_statements(patch, "no fence")


def a_fence_without_a_version(patch: pytest.MonkeyPatch) -> None:
    _change_statements(patch, "epoch only")


def _change_statements(patch: pytest.MonkeyPatch, fault: str) -> None:
    patch.setattr(Followed, "changed", staticmethod(FAULTS[fault]))
    patch.setattr(psycopg, "connect", Followed.connect)


def acknowledgements_pass_the_fence(patch: pytest.MonkeyPatch) -> None:
    """What only acknowledges begins a plain transaction when the fence refuses."""
    begin, commit = PostgresSession.begin, vars(Writer)["_commit"]

    def begin_anyway(session: PostgresSession) -> None:
        try:
            begin(session)
        except Exception:
            if not vars(session).pop("lenient", False):
                raise
            plain: Any = vars(PostgresSession)["_open"](session)
            plain.execute(f"BEGIN; {vars(session)['_path']}")

    def lenient(writer: Writer, jobs: Sequence[_Job]) -> None:
        vars(vars(writer)["_session"])["lenient"] = all(job.patient for job in jobs)
        commit(writer, jobs)

    patch.setattr(PostgresSession, "begin", begin_anyway)
    patch.setattr(Writer, "_commit", lenient)


def answers_come_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    attempt = vars(Writer)["_attempt"]

    def and_answer(writer: Writer, job: _Job) -> None:
        attempt(writer, job)
        job.loop.call_soon_threadsafe(job.settle)

    patch.setattr(Writer, "_attempt", and_answer)


PLANTS: dict[Plant, Finder] = {
    no_fence: test_fence.test_a_former_owner_changes_nothing,
    a_fence_without_a_version: (
        test_fence.test_an_epoch_that_is_given_out_again_does_not_let_its_old_owner_in
    ),
    acknowledgements_pass_the_fence: test_fence.test_a_former_owner_changes_nothing,
    answers_come_before_the_commit: test_fence.test_nobody_gets_an_answer_before_the_commit,
}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
async def test_the_fence_is_tested(
    plant: Plant, opener: PostgresOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await PLANTS[plant](opener)
