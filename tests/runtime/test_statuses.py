"""One status of a shared journal: whoever owns a shard is asked, also if it moves meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from forwarder.core.errors import FreeShardError
from forwarder.core.lease import Fleet, ShardOwner
from forwarder.runtime.anywhere import statuses_of

OWNERS = [ShardOwner(0, 1, "a"), ShardOwner(1, 1, "b"), ShardOwner(2, 1, "a")]


def shows(pid: int, *here: int) -> dict[str, Any]:
    shards = [{"shard": shard, "here": shard in here} for shard in range(3)]
    return {"host": "h", "pid": pid, "shards": shards}


class Asked:
    """A fleet whose owners give their answers one after another; of it only ``ask`` is used."""

    def __init__(self, answers: Mapping[int, Iterable[Any]]) -> None:
        self._answers = {shard: iter(those) for shard, those in answers.items()}

    async def ask(
        self, shard: int, command: str, given: Mapping[str, Any], *, patient: bool
    ) -> tuple[int, Any]:
        del given, patient
        assert command == "status"
        answer = next(self._answers[shard])
        if isinstance(answer, Exception):
            raise answer
        return 200, answer


async def asked(answers: Mapping[int, Iterable[Any]]) -> tuple[list[Any], dict[int, Any]]:
    found, failed = await statuses_of(cast("Fleet", Asked(answers)), OWNERS, None, patient=False)
    return [*found], {shard: str(error) for shard, error in failed.items()}


async def test_each_owner_is_asked_once_for_all_its_shards() -> None:
    found, failed = await asked({0: [shows(1, 0, 2)], 1: [shows(2, 1)]})

    assert ([1, 2], {}) == ([one["pid"] for one in found], failed)


async def test_a_shard_that_moves_meanwhile_is_asked_again() -> None:
    found, failed = await asked({0: [shows(1, 0)], 1: [shows(2, 1)], 2: [shows(2, 1, 2)]})

    assert [1, 2, 2] == [one["pid"] for one in found]
    assert {} == failed


async def test_a_shard_that_its_owner_does_not_show_is_named() -> None:
    found, failed = await asked({0: [shows(1, 0)], 1: [shows(2, 1)], 2: [shows(3)]})

    assert 3 == len(found)
    assert {2: "its owner changed meanwhile; repeat the command"} == failed


async def test_a_shard_that_somebody_shows_has_not_failed() -> None:
    free = FreeShardError("nobody owns shard 1")
    found, failed = await asked({0: [shows(1, 0)], 1: [free], 2: [shows(2, 1, 2)]})

    assert ([1, 2], {}) == ([one["pid"] for one in found], failed)


async def test_a_shard_that_nobody_owns_is_asked_for_once() -> None:
    free = FreeShardError("nobody owns shard 1")
    _, failed = await asked({0: [shows(1, 0, 2)], 1: [free]})

    assert {1: "nobody owns shard 1"} == failed
