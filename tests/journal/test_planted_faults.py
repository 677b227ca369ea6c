"""The machine finds faults: each plant is a fault that was once in this program, or could be."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from forwarder.core.errors import StateError
from forwarder.core.log import Progress
from forwarder.journal import (
    auditing,
    cancelling,
    dead_letters,
    lanes,
    ledger,
    retention,
    stream_log,
)
from forwarder.journal.journal import SqlJournal
from forwarder.journal.storage import Session
from forwarder.testing.journal_machine import machine_for
from tests.journal.sqlite_opener import SqliteOpener

pytestmark = pytest.mark.proof
Plant = Callable[[pytest.MonkeyPatch], None]
_MOST = 200


def absent_sinks_are_settled_in_the_live_lane_only(patch: pytest.MonkeyPatch) -> None:
    def live_only(session: Session) -> list[lanes.Standing]:
        return [one for one in lanes.standings(session) if one.kind == "live"]

    patch.setattr(retention, "standings", live_only)


def replayed_letters_do_not_come_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retention, "give_back", lambda *_: 0)


def a_cancelled_lane_is_only_marked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cancelling, "waiting_rows", lambda *_: [])


def rows_of_a_cancelled_lane_count_as_seen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cancelling, "_rewrite", lambda *_: None)


def identities_outlive_a_cancelled_lane_in_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stream_log.SeenPages, "clear", lambda _: None)


def a_replay_counts_against_the_gate(patch: pytest.MonkeyPatch) -> None:
    def of_all_kinds(session: Session, sinks: Collection[int], kinds: Collection[str]) -> Any:
        return lanes.holders(session, sinks, [*kinds, "replay", "letters"])

    patch.setattr(retention, "holders", of_all_kinds)


def a_backfill_is_for_some_but_its_rows_count_as_seen(patch: pytest.MonkeyPatch) -> None:
    known = vars(stream_log)
    for name in ("_TOUCHING", "_TIMELESS"):
        patch.setitem(known, name, known[name].replace("partial = 0", "partial >= 0"))


def a_new_sink_misses_a_backfill_that_grows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lanes, "BACKFILL", "another kind")


def an_acknowledgement_replaces_what_was_stored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Progress, "union", lambda _, other: other)


def losses_are_counted_and_not_recorded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger, "note_passed", lambda *_: None)


def losses_are_recorded_and_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger, "note_loss", lambda *_: None)


def a_place_may_lie_beyond_the_rows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dead_letters, "next_offset", lambda _: 10**9)


def a_backfill_holds_no_rows(patch: pytest.MonkeyPatch) -> None:
    def live_only(session: Session, sinks: Collection[int], kinds: Collection[str]) -> Any:
        return lanes.holders(session, sinks, [kind for kind in kinds if kind == "live"])

    patch.setattr(retention, "holders", live_only)


def an_audit_takes_what_was_passed_over_for_delivered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vars(auditing)["_Fates"], "_why", lambda *_: None)


def a_forgotten_sink_leaves_no_gap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cancelling, "lose", lambda *_: None)


def the_position_is_stored_before_the_rows(patch: pytest.MonkeyPatch) -> None:
    append = stream_log.JournalStreamLog.append

    async def in_two(self: stream_log.JournalStreamLog, addition: Any) -> Any:
        if addition.records:
            await append(self, replace(addition, records=()))
        return await append(self, addition)

    patch.setattr(stream_log.JournalStreamLog, "append", in_two)


def a_lane_ends_for_all_sinks_when_one_is_through(patch: pytest.MonkeyPatch) -> None:
    def end(session: Session) -> bool:
        return (
            session.execute(
                "UPDATE lane SET state = 'done' WHERE state = 'open' AND end_offset IS NOT NULL "
                "AND EXISTS (SELECT 1 FROM progress "
                "WHERE progress.lane = lane.id AND prefix >= lane.end_offset)"
            ).rowcount
            > 0
        )

    patch.setattr(lanes, "end_finished", end)
    patch.setattr(dead_letters, "end_finished", end)


def what_a_replay_refused_counts_as_delivered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dead_letters, "note_refused", lambda *_: None)


def expected_refusals_leave_without_a_gap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dead_letters, "note_loss", lambda *_: None)


def a_row_that_grew_is_another_row(patch: pytest.MonkeyPatch) -> None:
    unseen = stream_log.unseen
    patch.setattr(stream_log, "unseen", lambda s, p, r, _, *rest: unseen(s, p, r, {}, *rest))


def an_overtaken_page_is_stored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stream_log, "is_overtaken", lambda *_: False)


def identities_go_before_a_days_audit_is_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retention, "_AUDITED_US", 0)


def timeless_rows_are_forgotten_with_their_bodies(patch: pytest.MonkeyPatch) -> None:
    remove = vars(retention)["_remove_forgotten"]

    def at_once(session: Session, now_us: int, keeping: Any) -> Any:
        session.execute("DELETE FROM page WHERE timeless = 1 AND size = 0")
        return remove(session, now_us, keeping)

    patch.setattr(retention, "_remove_forgotten", at_once)


def cancelling_that_was_interrupted_is_not_finished(patch: pytest.MonkeyPatch) -> None:
    async def nothing(_: SqlJournal) -> None:
        return

    patch.setattr(SqlJournal, "_finish_cancelling", nothing)


def twins_are_taken_for_one_row(patch: pytest.MonkeyPatch) -> None:
    unseen = stream_log.unseen

    def by_text(session: Any, place: Any, records: Any, aliases: Any, seen: Any) -> Any:
        new, reshaped = unseen(session, place, records, aliases, seen)
        first = {records.part([n]).text: n for n in reversed(new)}
        return sorted(first.values()), reshaped

    patch.setattr(stream_log, "unseen", by_text)


PLANTS: Sequence[Plant] = (
    absent_sinks_are_settled_in_the_live_lane_only,
    replayed_letters_do_not_come_back,
    a_cancelled_lane_is_only_marked,
    rows_of_a_cancelled_lane_count_as_seen,
    a_replay_counts_against_the_gate,
    a_backfill_is_for_some_but_its_rows_count_as_seen,
    a_new_sink_misses_a_backfill_that_grows,
    an_acknowledgement_replaces_what_was_stored,
    losses_are_counted_and_not_recorded,
    losses_are_recorded_and_not_counted,
    a_place_may_lie_beyond_the_rows,
    a_backfill_holds_no_rows,
    an_audit_takes_what_was_passed_over_for_delivered,
    a_forgotten_sink_leaves_no_gap,
    the_position_is_stored_before_the_rows,
    a_lane_ends_for_all_sinks_when_one_is_through,
    what_a_replay_refused_counts_as_delivered,
    expected_refusals_leave_without_a_gap,
    a_row_that_grew_is_another_row,
    an_overtaken_page_is_stored,
    identities_go_before_a_days_audit_is_over,
    timeless_rows_are_forgotten_with_their_bodies,
    cancelling_that_was_interrupted_is_not_finished,
    twins_are_taken_for_one_row,
)


def _searched(most: int) -> tuple[int, BaseException | None]:
    """Let the machine search; return how many examples it took, and what it fell over."""
    examples, failed_in = 0, 0

    class Watched(machine_for(SqliteOpener)):  # type: ignore[misc]
        def __init__(self) -> None:
            nonlocal examples
            examples += 1
            super().__init__()

        def teardown(self) -> None:
            nonlocal failed_in
            # The first one: Hypothesis runs the example that failed once more.
            if failed_in == 0 and _failed_check(sys.exception()):
                failed_in = examples
            super().teardown()

    quick = settings(
        max_examples=most,
        stateful_step_count=40,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    try:
        run_state_machine_as_test(Watched, settings=quick)
    except Exception as error:  # noqa: BLE001 - the caller judges it
        return failed_in or examples, error
    return examples, None


def _failed_check(error: BaseException | None) -> str | None:
    """Return which comparison of the machine failed; None where the code or a test died."""
    if not isinstance(error, AssertionError):
        return None
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    of_the_machine = frame.f_globals["__name__"].startswith("forwarder.testing.journal_")
    return frame.f_code.co_name if of_the_machine else None


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_the_machine_finds_it(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says after how many examples; ``pytest -s`` on this file prints them."""
    plant(monkeypatch)

    examples, error = _searched(_MOST)

    check = _failed_check(error)
    assert check, error
    sys.stdout.write(f"{plant.__name__}: found after {examples} examples by {check}\n")


@pytest.mark.parametrize("planted", [True, False])
def test_a_life_that_is_aimed_finds_what_the_machine_rarely_meets(
    monkeypatch: pytest.MonkeyPatch, *, planted: bool
) -> None:
    """Of two rows of one moment a sink received the first; the other must be found again."""
    if planted:
        identities_outlive_a_cancelled_lane_in_memory(monkeypatch)
    one = machine_for(SqliteOpener)()
    failed = None
    try:
        one.begin(blocking=True, two=False)
        one.backfill_in_short([], [1, 2], (0,), "cancel")
    except AssertionError as error:
        failed = _failed_check(error)
    finally:
        one.teardown()

    assert bool(failed) == planted


def test_nothing_is_found_where_nothing_is_planted() -> None:
    """The same examples as above, so what is found above is the plant."""
    _, error = _searched(_MOST)

    assert error is None


@pytest.mark.parametrize("error", [StateError("no"), KeyError("no"), AssertionError("no")])
def test_code_that_dies_is_nothing_found(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(_: Session) -> bool:
        raise error

    monkeypatch.setattr(dead_letters, "end_finished", die)

    _, fell_over = _searched(_MOST)

    assert fell_over is error
    assert _failed_check(fell_over) is None
