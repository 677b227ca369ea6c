"""Which shards of a journal a command concerns, and one answer out of theirs; pure.

The owner of each shard carries out its part. What is counted is added up. A shard that has nothing
of what the command is about has nothing to do, unless that is so in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeAlias

from forwarder.core.errors import (
    AbsentError,
    BadRequestError,
    ForwarderError,
    PartlyDoneError,
    StateError,
)
from forwarder.core.lease import ShardOwner
from forwarder.runtime.health import READY, state_of

Given: TypeAlias = Mapping[str, Any]
Answer: TypeAlias = Mapping[str, Any] | ForwarderError
"""What one shard answered, or why its part of a command was not done."""
Status: TypeAlias = Mapping[str, Any]
"""What ``Overview.status`` of one replica returns."""

_LANES = {"replay": "replay", "dead-letters-replay": "replay", "backfill": "backfill"}
"""What lanes of a command are called; its lanes in all shards have one name."""
_SHOWN = 20
"""Gaps, and groups of dead letters, that status shows."""
_OF_ONE = (
    *("version", "host", "pid", "started", "uptime_seconds", "config", "settings", "log"),
    *("replicas", "lost_replicas", "older_replicas"),
)
"""What a status says of one process, and of the fleet, of which all replicas say the same."""
_LETTER = re.compile(r"([0-9]{1,4})-([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Layout:
    """The shards of a journal, the shard of each account that has one, and the accounts' labels."""

    shards: Sequence[int]
    placed: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def parts(name: str, given: Given, layout: Layout, now_us: int) -> dict[int, Given]:
    """Return what each shard that a command concerns is given; ``now_us`` names a new lane.

    Raises ``BadRequestError`` for dead letters that do not name their shard, and ``AbsentError``
    for accounts that are in no shard.
    """
    if len(layout.shards) == 1:
        return {layout.shards[0]: given}
    if name in _LANES and not given.get("lane"):
        given = {**given, "lane": f"{_LANES[name]}:{now_us:x}"}
    if given.get("ids"):
        letters = _letters(_listed(given, "ids"), layout.shards)
        return {shard: {**given, "ids": ids} for shard, ids in letters.items()}
    if name == "cursor-set":
        return dict.fromkeys(_homes([given.get("account_id")], layout), given)
    if name == "backfill" and given.get("accounts"):
        homes = _homes(_listed(given, "accounts"), layout)
        return {shard: {**given, "accounts": accounts} for shard, accounts in homes.items()}
    chosen = _listed(given, "shards") if given.get("shards") else layout.shards
    return {shard: given for shard in layout.shards if shard in chosen}


def _listed(given: Given, name: str) -> Sequence[Any]:
    value = given[name]
    if not isinstance(value, list | tuple):
        raise BadRequestError(f"{name} must be a list")
    return value


def _letters(ids: Iterable[Any], shards: Sequence[int]) -> dict[int, list[int]]:
    """Return the numbers of dead letters by shard."""
    found: dict[int, list[int]] = {}
    for one in ids:
        named = _LETTER.fullmatch(str(one))
        if named is None or int(named[1]) not in shards:
            raise BadRequestError(
                f"{one!s:.40} names no dead letter: the journal has {_named(shards)}, and each of "
                "their dead letters is called SHARD-ID, such as 0-17"
            )
        found.setdefault(int(named[1]), []).append(int(named[2]))
    return found


def _homes(accounts: Iterable[Any], layout: Layout) -> dict[int, list[str]]:
    """Return accounts (ids or labels) by shard, as ids."""
    found: dict[int, list[str]] = {}
    for one in map(str, accounts):
        ids = [account for account, label in layout.labels.items() if one in {account, label}]
        placed = [account for account in ids or [one] if account in layout.placed]
        if not placed:
            raise AbsentError(f"account {one:.80} is in no shard: no replica has read it so far")
        for account in placed:
            found.setdefault(layout.placed[account], []).append(account)
    return {shard: list(dict.fromkeys(accounts)) for shard, accounts in found.items()}


def merged(name: str, wanted: Mapping[int, Given], answers: Mapping[int, Answer]) -> Given:
    """Return one answer out of those of the shards; ``shards`` are those that had something to do.

    Raises ``PartlyDoneError`` if only some did their part, and an error of the shards if none did.
    """
    done = {n: one for n, one in sorted(answers.items()) if not isinstance(one, ForwarderError)}
    errors = {n: one for n, one in sorted(answers.items()) if isinstance(one, ForwarderError)}
    if not done and len({str(one) for one in errors.values()}) == 1:
        raise next(iter(errors.values()))
    failed = {n: one for n, one in errors.items() if not isinstance(one, AbsentError)}
    whole = reduce(_added, done.values(), dict[str, Any]())
    # Who asks for the rows of a backfill asks those shards only, be it one of several.
    if len(answers) > 1 or name == "backfill":
        whole["shards"] = list(done)
    if not failed and done:
        return whole
    reasons = reasons_of(failed or errors)
    if not done:
        raise StateError(reasons)
    raise PartlyDoneError(
        f"done in {_named(done)} only ({_said(whole)}). Not done in {reasons}. "
        f"{_again(name, wanted, failed)}; what is done is not done twice"
    )


def _added(one: dict[str, Any], other: Given) -> dict[str, Any]:
    """Return two answers as one: counts are added, lists are joined, texts are equal."""
    found = dict(one)
    for key, value in other.items():
        if isinstance(value, bool | str) or key not in found:
            found[key] = value
        elif isinstance(value, list):
            found[key] = list(dict.fromkeys([*found[key], *value]))
        else:
            found[key] += value
    return found


def reasons_of(failed: Mapping[int, ForwarderError]) -> str:
    """Return what each shard said, and once what several said."""
    said: dict[str, list[int]] = {}
    for shard, error in failed.items():
        hint = getattr(error, "hint", "")
        said.setdefault(f"{error} ({hint})" if hint else str(error), []).append(shard)
    return "; ".join(f"{_named(shards)}: {reason}" for reason, shards in said.items())


def _said(answer: Given) -> str:
    counts = (f"{key} {value}" for key, value in answer.items() if isinstance(value, int | str))
    return ", ".join(counts).replace("_", " ")


def _again(name: str, wanted: Mapping[int, Given], failed: Iterable[int]) -> str:
    """Return how to do the rest."""
    part = next(iter(wanted.values()))
    if part.get("ids"):
        return f"Repeat the command with the dead letters of {_named(failed)}"
    if name in {"replay", "backfill"}:
        return f"For the rest, repeat the command with --lane {part['lane']}"
    return "For the rest, repeat the command"


def _named(shards: Iterable[int]) -> str:
    listed = [str(one) for one in shards]
    return f"shard{'s' if len(listed) > 1 else ''} {', '.join(listed)}"


def shown(statuses: Iterable[Status]) -> set[int]:
    """Return the shards whose streams and sinks are in statuses."""
    return {one["shard"] for status in statuses for one in status["shards"] if one.get("here")}


def unseen(owners: Iterable[ShardOwner], statuses: Sequence[Status]) -> list[list[int]]:
    """Return the shards that statuses lack, those of one owner together."""
    found, have = dict[str | int, list[int]](), shown(statuses)
    for one in owners:
        if one.shard not in have:
            found.setdefault(one.owner or one.shard, []).append(one.shard)
    return list(found.values())


def merged_status(statuses: Sequence[Status], failed: Mapping[int, ForwarderError]) -> Status:
    """Return one status out of those of replicas; ``failed`` says why shards are missing.

    What describes a process or the fleet is that of the first replica.
    """
    # One that has just taken a second shard may have been asked twice.
    statuses = list({(one["host"], one["pid"]): one for one in statuses}.values())
    here = shown(statuses)
    ready = not failed and all(one["ready"] for one in statuses)
    worse = [one["state"] for one in statuses if one["state"] != READY]
    reasons = [*_joined(statuses, "reasons"), *([reasons_of(failed)] if failed else [])]
    return {
        **{key: statuses[0][key] for key in _OF_ONE if key in statuses[0]},
        "live": all(one["live"] for one in statuses),
        "ready": ready,
        "state": state_of(ready=ready, degraded=worse),
        "reasons": list(dict.fromkeys(reasons)),
        "streams": _joined(statuses, "streams"),
        "pushes": _joined(statuses, "pushes"),
        "sinks": _sinks(_joined(statuses, "sinks")),
        "journal": _sizes([one["journal"] for one in statuses]),
        "shards": [{**one, "here": one["shard"] in here} for one in statuses[0]["shards"]],
        "backfills": _joined(statuses, "backfills"),
        "gaps": _gaps([one["gaps"] for one in statuses]),
        "dead_letters": _groups(_joined(statuses, "dead_letters")),
        "tasks": _joined(statuses, "tasks"),
        # Each replica counts the requests of the accounts in its shards.
        "budgets": dict(one for status in statuses for one in status.get("budgets", {}).items()),
    }


def _joined(statuses: Iterable[Status], key: str) -> list[Any]:
    # A replica of another version may not have it.
    return [one for status in statuses for one in status.get(key, ())]


def _sinks(found: Iterable[Status]) -> list[Status]:
    """Return one entry for each sink: the least ready speaks for all, and counts are added up."""
    sinks: dict[str, Status] = {}
    for one in found:
        have = sinks.get(one["sink"])
        sinks[one["sink"]] = one if have is None else _both(have, one)
    return list(sinks.values())


def _both(one: Status, other: Status) -> Status:
    counts = ("backlog_events", "delivered_events", "in_flight_batches", "dead_letters", "lanes")
    most = ("oldest_unacknowledged_seconds", "attempts")
    worse = min(one, other, key=lambda sink: (sink["phase"] != "held", sink["phase"] == "running"))
    last = [time for time in (one["last_success"], other["last_success"]) if time is not None]
    return {
        **{key: value for key, value in worse.items() if key not in counts},
        # A replica of another release may not count all of them.
        **{key: one[key] + other[key] for key in counts if key in one and key in other},
        **{key: max(one[key], other[key]) for key in most},
        "last_success": max(last, default=None),
    }


def _sizes(found: Sequence[Status]) -> Status:
    own = ("stored_bytes", "stored_rows", "file_bytes")
    return {
        **found[0],
        # Each replica counts the undelivered bytes of all shards, by their leases.
        "undelivered_bytes": max(one["undelivered_bytes"] for one in found),
        **{key: sum(one[key] for one in found) for key in own},
        "gate_closed": any(one["gate_closed"] for one in found),
        "orphans": _joined(found, "orphans"),
    }


def _gaps(found: Sequence[Status]) -> Status:
    latest = sorted(_joined(found, "latest"), key=lambda gap: gap["closed"] or "", reverse=True)
    latest.sort(key=lambda gap: gap["closed"] is not None)
    counts = {key: sum(one[key] for one in found) for key in ("total", "open")}
    return {**counts, "latest": latest[:_SHOWN]}


def _groups(found: Iterable[Status]) -> list[Status]:
    groups: dict[tuple[str, str], Status] = {}
    for one in found:
        key = one["sink"], one["reason"]
        have = groups.get(key, {**one, "events": 0})
        latest = max(have["latest"], one["latest"])
        groups[key] = {**one, "events": have["events"] + one["events"], "latest": latest}
    return sorted(groups.values(), key=lambda group: group["latest"], reverse=True)[:_SHOWN]
