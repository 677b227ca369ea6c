"""Who takes and gives which shard, and where accounts go: decided without a leader."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.lease import (
    FleetState,
    Identity,
    Member,
    ShardOwner,
    is_foreign,
    placing,
    shares,
    spare,
    wanted,
)

Owners = dict[int, str]


def seen(owners: Owners, replicas: list[str]) -> FleetState:
    shards = [ShardOwner(n, 1, owner) for n, owner in owners.items()]
    return FleetState(shards, [Member(name) for name in replicas], replicas)


def settle(owners: Owners, replicas: list[str]) -> int:
    """Let each replica decide in turn until nobody wants anything; return how many shards moved."""
    moves, quiet = 0, False
    while not quiet:
        quiet = True
        for name in replicas:
            fleet = seen(owners, replicas)
            mine = [shard for shard, owner in owners.items() if owner == name]
            free = [shard for shard, owner in owners.items() if not owner]
            if free and wanted(fleet, name, len(mine), overdue=False):
                owners[free[0]], quiet = name, False
            elif mine and spare(fleet, name):
                owners[mine[-1]], quiet, moves = "", False, moves + 1
        assert moves <= len(owners), "shards go round in circles"
    return moves


names = st.lists(st.sampled_from("abcdefg"), min_size=1, unique=True)


@given(shards=st.integers(1, 16), before=names, after=names)
def test_replicas_that_come_and_go_end_with_as_many_shards_as_the_others(
    shards: int, before: list[str], after: list[str]
) -> None:
    owners: Owners = dict.fromkeys(range(shards), "")
    settle(owners, before)
    owners = {shard: owner if owner in after else "" for shard, owner in owners.items()}
    kept = Counter(owner for owner in owners.values() if owner)

    moves = settle(owners, after)

    least, most = shares(seen(owners, after), after[0])
    held = Counter(owners.values())
    assert all(least <= held[name] <= most for name in after)
    assert "" not in held
    # No more than what those above their share have, and what those below it lack.
    assert moves <= sum(max(0, n - least) for n in kept.values())


def test_one_shard_stays_where_it_is() -> None:
    fleet = seen({0: "a"}, ["a", "b", "c"])

    assert not any(spare(fleet, name) for name in "abc")
    assert not any(wanted(fleet, name, 0, overdue=False) for name in "")  # nothing is free


def test_a_shard_that_stays_free_may_go_to_any_replica_below_the_most() -> None:
    fleet = seen({0: "a", 1: "a", 2: "b", 3: ""}, ["a", "b", "c"])

    assert not wanted(fleet, "b", 1, overdue=False)
    assert wanted(fleet, "c", 0, overdue=False)
    assert wanted(fleet, "b", 1, overdue=True)
    assert not wanted(fleet, "a", 2, overdue=True)


def test_accounts_of_one_credential_go_to_one_shard_and_the_rest_is_even() -> None:
    credentials = {f"{n:03}": f"token-{n % 20}" for n in range(200)}

    placed = placing({}, credentials, range(4))

    homes = {(credentials[account], shard) for account, shard in placed.items()}
    assert 20 == len(homes)
    assert {0: 50, 1: 50, 2: 50, 3: 50} == Counter(placed.values())


def test_an_account_stays_where_it_is_and_draws_others_of_its_credential() -> None:
    placed = {"a": 2, "b": 0}

    chosen = placing(placed, {"a": "new", "b": "other", "c": "new", "d": "third"}, range(3))

    assert {"c": 2, "d": 1} == chosen


def test_a_replica_with_older_settings_keeps_its_shards_and_takes_no_other() -> None:
    shards = [ShardOwner(0, 1, "old"), ShardOwner(1, 1, "old"), ShardOwner(2, 1, "")]
    fleet = FleetState(shards, [Member("new"), Member("old")], ["new"])

    assert not wanted(fleet, "old", 2, overdue=True)
    assert wanted(fleet, "new", 0, overdue=False)
    assert not spare(FleetState(shards[:2], [Member("new"), Member("old")], ["new"]), "old")


def test_a_fleet_is_known_by_its_name_or_by_one_common_account() -> None:
    found, named = Identity("", {"a": "", "b": ""}), Identity("east", {"a": ""})

    assert is_foreign(found, Identity("", {"c": "token"}))
    assert is_foreign(found, Identity("east", {"c": "token"}))
    assert is_foreign(named, Identity("west", {"a": "token"}))
    assert not is_foreign(Identity("", {}), Identity("", {"c": "token"}))
    assert not is_foreign(found, Identity("", {"b": "token", "c": "token"}))
    assert not is_foreign(named, Identity("", {"a": "token"}))
    assert not is_foreign(named, Identity("east", {"c": "token"}))
    assert "token" not in repr(Identity("", {"c": "token"}))
