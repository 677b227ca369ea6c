"""Each command reaches the shards that it concerns, and nothing is left half done in silence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, strategies

from forwarder.core.errors import (
    AbsentError,
    BadRequestError,
    ForwarderError,
    PartlyDoneError,
    StateError,
    TransientError,
)
from forwarder.core.lease import ShardOwner
from forwarder.runtime.cell import Seat
from forwarder.runtime.routing import Layout, merged, merged_status, parts, unseen
from forwarder.runtime.status import Overview
from tests.runtime.test_replica import replica

ACCOUNTS = {"a": 0, "b": 2, "c": 2}
LAYOUT = Layout((0, 1, 2), ACCOUNTS, {"a": "acme", "b": "beta", "c": "beta"})
NOW_US = 255


def test_commands_about_the_whole_journal_go_to_every_shard() -> None:
    for name in ("dead-letters-drop", "sink-forget", "lane-cancel", "backfill-rows"):
        asked = parts(name, {"sink": "siem"}, LAYOUT, NOW_US)

        assert {shard: {"sink": "siem"} for shard in range(3)} == asked, name


def test_only_the_shards_of_a_backfill_are_asked_for_its_rows() -> None:
    begun = parts("backfill", {"accounts": ["acme"]}, LAYOUT, NOW_US)
    answer = merged("backfill", begun, {shard: {"lane": "backfill:ff"} for shard in begun})

    assert [0] == [*parts("backfill-rows", answer, LAYOUT, NOW_US)]


def test_a_lane_has_one_name_in_all_shards() -> None:
    names = {"replay": "replay:ff", "dead-letters-replay": "replay:ff", "backfill": "backfill:ff"}
    for name, lane in names.items():
        asked = parts(name, {}, LAYOUT, NOW_US)

        assert {lane} == {one["lane"] for one in asked.values()}, name
    assert "replay:1" == parts("replay", {"lane": "replay:1"}, LAYOUT, NOW_US)[1]["lane"]


def test_dead_letters_go_to_their_shards() -> None:
    asked = parts("dead-letters-drop", {"sink": "s", "ids": ["2-7", "0-1", "2-9"]}, LAYOUT, NOW_US)

    assert {2: [7, 9], 0: [1]} == {shard: one["ids"] for shard, one in asked.items()}


def test_dead_letters_without_a_shard_are_refused() -> None:
    for ids in ([7], ["3-1"], ["0-"], [None], "0-1", {"0-1": 1}):
        with pytest.raises(BadRequestError):
            parts("dead-letters-drop", {"ids": ids}, LAYOUT, NOW_US)


def test_accounts_are_asked_where_they_are() -> None:
    cursor = parts("cursor-set", {"account_id": "b", "to_us": 1}, LAYOUT, NOW_US)
    backfill = parts("backfill", {"accounts": ["acme", "b", "beta"]}, LAYOUT, NOW_US)
    everybody = parts("backfill", {"accounts": []}, LAYOUT, NOW_US)

    assert {2: {"account_id": "b", "to_us": 1}} == cursor
    assert {0: ["a"], 2: ["b", "c"]} == {n: one["accounts"] for n, one in backfill.items()}
    assert {0, 1, 2} == set(everybody)


def test_an_account_that_left_the_settings_is_found_by_its_id() -> None:
    asked = parts("cursor-set", {"account_id": "a"}, Layout((0, 1), {"a": 1}), NOW_US)

    assert [1] == [*asked]


def test_an_account_that_is_nowhere_is_refused() -> None:
    for name, asked in (
        ("cursor-set", {"account_id": "d"}),
        ("cursor-set", {}),
        ("backfill", {"accounts": ["d"]}),
    ):
        with pytest.raises(AbsentError, match="is in no shard"):
            parts(name, asked, LAYOUT, NOW_US)


def test_one_shard_is_given_everything_as_it_is() -> None:
    asked = {"ids": [7], "account_id": "d"}

    assert {0: asked} == parts("dead-letters-drop", asked, Layout((0,)), NOW_US)


def answered(**answers: Mapping[str, Any] | ForwarderError) -> dict[int, Any]:
    return {int(name.removeprefix("shard")): one for name, one in answers.items()}


def outcome(name: str, answers: dict[int, Any]) -> Mapping[str, Any]:
    asked: Mapping[str, Any] = {"lane": "replay:ff"} if name == "replay" else {}
    return merged(name, dict.fromkeys(answers, asked), answers)


def test_counts_are_added_and_lists_joined() -> None:
    answers = answered(
        shard0={"lane": "backfill:1", "streams": ["x/logins"], "rows": 1},
        shard2={"lane": "backfill:1", "streams": ["y/logins", "x/logins"], "rows": 2},
    )

    assert {
        "lane": "backfill:1",
        "streams": ["x/logins", "y/logins"],
        "rows": 3,
        "shards": [0, 2],
    } == outcome("backfill", answers)


def test_a_shard_that_has_nothing_of_it_has_nothing_to_do() -> None:
    nothing = AbsentError("no open lane is called x")
    some = answered(shard0=nothing, shard1={"lost": 2}, shard2=nothing)
    none = answered(shard0=nothing, shard1=AbsentError("no open lane is called x"))

    assert {"lost": 2, "shards": [1]} == outcome("lane-cancel", some)
    with pytest.raises(AbsentError, match=r"^no open lane is called x$"):
        outcome("lane-cancel", none)


def test_what_is_done_in_some_shards_only_says_where_and_how_to_do_the_rest() -> None:
    answers = answered(
        shard0={"events": 3, "lane": "replay:ff"},
        shard1=AbsentError("no rows are kept"),
        shard2=StateError("r-2 has not answered"),
        shard3=StateError("r-2 has not answered"),
    )

    with pytest.raises(PartlyDoneError) as raised:
        outcome("replay", answers)

    assert (
        "done in shard 0 only (events 3, lane replay:ff). Not done in shards 2, 3: r-2 has not "
        "answered. For the rest, repeat the command with --lane replay:ff; what is done is not "
        "done twice"
    ) == str(raised.value)


def test_nothing_done_is_an_error_of_the_shards() -> None:
    same = TransientError("the database is away", hint="look at it")
    both = answered(shard0=AbsentError("no sink called x"), shard1=TransientError("away", hint="h"))

    with pytest.raises(TransientError) as raised:
        outcome("replay", answered(shard0=same, shard1=TransientError("the database is away")))
    with pytest.raises(StateError, match=r"^shard 1: away \(h\)$"):
        outcome("replay", both)

    assert same is raised.value


ANSWERS = strategies.dictionaries(
    strategies.integers(0, 63),
    strategies.one_of(
        strategies.builds(lambda n: {"events": n}, strategies.integers(0, 10**6)),
        strategies.builds(AbsentError, strategies.sampled_from(["no a", "no b"])),
        strategies.builds(StateError, strategies.sampled_from(["away", "late"])),
    ),
    min_size=1,
)


@given(ANSWERS)
def test_every_shard_is_in_the_sum_or_in_the_error(answers: dict[int, Any]) -> None:
    done = {n for n, one in answers.items() if isinstance(one, dict)}
    failed = {n for n, one in answers.items() if type(one) is StateError}
    try:
        whole = outcome("sink-forget", answers)
    except PartlyDoneError as error:
        assert done
        assert failed
        before, _, after = str(error).partition(". Not done in ")
        assert done == {int(n) for n in re.findall("[0-9]+", before.partition(" (")[0])}
        assert all(str(n) in after for n in failed)
    except ForwarderError:
        assert not done
    else:
        assert not failed
        assert sum(one["events"] for n, one in answers.items() if n in done) == whole["events"]


def status(pid: int, here: set[int], **more: Any) -> dict[str, Any]:
    sink = {
        "sink": "siem", "phase": "running", "backlog_events": 2, "delivered_events": 5,
        "in_flight_batches": 1,
        "dead_letters": 1, "oldest_unacknowledged_seconds": 1.0, "attempts": 0,
        "last_success": None, "lanes": [{"lane": "live"}],
    }  # fmt: skip
    journal = {
        "undelivered_bytes": 10, "stored_bytes": 20, "stored_rows": 30, "file_bytes": 40,
        "limit_bytes": 99, "gate_closed": False, "orphans": [],
    }  # fmt: skip
    return {
        "host": "h", "pid": pid, "live": True, "ready": True, "state": "ready", "reasons": [],
        "streams": [{"stream": f"of {pid}"}], "sinks": [sink], "journal": journal,
        "shards": [{"shard": n, "here": n in here} for n in range(3)], "backfills": [],
        "gaps": {"total": 1, "open": 1, "latest": [{"closed": None}]}, "tasks": [],
        "dead_letters": [{"sink": "siem", "reason": "r", "events": 1, "latest": f"{pid}"}],
        "budgets": {f"account of {pid}": 3.0},
    } | more  # fmt: skip


def test_statuses_of_replicas_are_one() -> None:
    whole = merged_status([status(2, {2}), status(1, {0, 1}), status(2, {2})], {})

    assert [True] * 3 == [one["here"] for one in whole["shards"]]
    assert ["of 2", "of 1"] == [one["stream"] for one in whole["streams"]]
    (sink,) = whole["sinks"]
    assert (4, 2, 2) == (sink["backlog_events"], sink["in_flight_batches"], sink["dead_letters"])
    assert 2 == len(sink["lanes"])
    # Each knows the undelivered bytes of all, and its own size.
    assert (10, 40) == (whole["journal"]["undelivered_bytes"], whole["journal"]["stored_bytes"])
    assert (2, 2) == (whole["gaps"]["total"], len(whole["gaps"]["latest"]))
    assert [{"sink": "siem", "reason": "r", "events": 2, "latest": "2"}] == whole["dead_letters"]
    assert {"account of 1": 3.0, "account of 2": 3.0} == whole["budgets"]
    assert ("ready", True) == (whole["state"], whole["ready"])


def test_what_a_replica_of_another_release_does_not_count_is_left_out() -> None:
    older = status(2, {2})
    del older["sinks"][0]["delivered_events"]
    (sink,) = merged_status([status(1, {0, 1}), older], {})["sinks"]

    assert (4, None) == (sink["backlog_events"], sink.get("delivered_events"))


def test_what_replicas_tell_of_one_thing_is_the_worst_of_it_and_the_latest() -> None:
    first, second = "2026-07-01T00:00:00Z", "2026-07-02T00:00:00Z"
    one, other = status(1, {0}), status(2, {1, 2}, pushes=[{"dataset": "a"}])
    one["sinks"][0] |= {"attempts": 3, "last_success": second}
    other["sinks"][0] |= {"oldest_unacknowledged_seconds": 9.0, "last_success": first}
    one["gaps"]["latest"] = [{"closed": None}, {"closed": first}]
    other["gaps"]["latest"] = [{"closed": None}, {"closed": second}]
    other["journal"]["gate_closed"] = True
    whole = merged_status([one, other], {})

    (sink,) = whole["sinks"]
    assert (3, 9.0, second) == (
        sink["attempts"],
        sink["oldest_unacknowledged_seconds"],
        sink["last_success"],
    )
    assert [None, None, second, first] == [gap["closed"] for gap in whole["gaps"]["latest"]]
    assert whole["journal"]["gate_closed"]
    # A replica of another version lists none.
    assert [{"dataset": "a"}] == whole["pushes"]


def test_the_worst_of_the_replicas_speaks_for_all() -> None:
    held = status(2, {2}, ready=False, state="not_ready", reasons=["sink siem: token"])
    held["sinks"][0] |= {"phase": "held", "error": "token"}
    degraded = status(3, {2}, state="degraded", reasons=["late"])
    silent = {2: StateError("nobody has it")}

    assert "held" == merged_status([status(1, {0}), held], {})["sinks"][0]["phase"]
    assert "not_ready" == merged_status([status(1, {0}), held], {})["state"]
    assert "degraded" == merged_status([status(1, {0}), degraded], {})["state"]
    missing = merged_status([status(1, {0, 1})], silent)
    assert (False, "not_ready") == (missing["ready"], missing["state"])
    assert ["shard 2: nobody has it"] == missing["reasons"]


async def test_a_key_of_a_status_is_merged_or_is_named_as_that_of_one_process() -> None:
    own = await Overview(replica(), Seat()).status()

    assert own.keys() == merged_status([own], {}).keys()


def test_each_owner_is_asked_once_and_each_free_shard() -> None:
    owners = [ShardOwner(n, 1, name) for n, name in enumerate(["x", "y", "x", "", ""])]

    assert [[0, 2], [1], [3], [4]] == unseen(owners, [])
    assert [[3], [4]] == unseen(owners, [status(1, {0, 1, 2})])
