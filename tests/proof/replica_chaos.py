"""Rounds in which the owner of a shared journal dies or freezes, at named points and at random."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.end_to_end.processes import until
from tests.proof.followed import POINTS
from tests.proof.killable import ANSWER
from tests.proof.replicas import LEASE, Replicas, is_frozen, replicas
from tests.proof.site import Site

TAKEN_WITHIN = LEASE + 3.0
"""Seconds until a standby has the journal of an owner that died."""
IDLE = 5.0
"""Seconds that a frozen owner may hold an open transaction, by the limits of each transaction."""
IN_FLIGHT = 8 * 200
"""Events of a sink that an owner may leave behind: four batches of 200 that are on their way, and
as many whose acknowledgements wait for the commit."""
UNANSWERED = "SIEM has a batch, not answered"
RANDOM = "at random"
KILLED, FROZEN = "killed", "frozen"
_SIGNALS = {KILLED: signal.SIGKILL, FROZEN: signal.SIGSTOP, "woken": signal.SIGCONT}
TAKEN = "journal taken"
_RARE = ("dead letter goes in", TAKEN)
_PATIENCE = 10.0
_NOTICED = 30.0


class Errand(NamedTuple):
    """Where the owner is struck, and how."""

    point: str
    how: str


def errands() -> Iterator[Errand]:
    """Give every point with a kill and with a freeze, and every fifth errand at random."""
    kinds = [*POINTS, ANSWER, UNANSWERED]
    every = cycle([(kind, turn + number) for turn in range(2) for number, kind in enumerate(kinds)])
    for count, (kind, number) in enumerate(every):
        yield Errand(kind, (KILLED, FROZEN)[number % 2])
        if count % 4 == 3:
            yield Errand(RANDOM, (KILLED, FROZEN)[count // 4 % 2])


@dataclass
class Chaos:
    """Strikes the owner, round after round, and keeps what was done."""

    running: Replicas
    random: Random
    struck: list[tuple[str, str, float]] = field(default_factory=list)
    """How, where, and the seconds until another replica had taken over."""

    async def rounds(self, number: int) -> None:
        """Strike whoever owns the journal so often; all replicas run before and after."""
        await self.running.all_run()
        for errand in islice(errands(), number):
            owner = self.random.choice(await self.running.all_owned())
            await owner.running()
            point, at = await self._strike(owner, errand)
            await self.running.owned(by_other_than=owner)
            self.struck.append((errand.how, point, time.monotonic() - at))
            for member in self.running.members:
                await self._recover(member)
            await self.running.all_run()

    async def _strike(self, owner: Site, errand: Errand) -> tuple[str, float]:
        """Let the owner be struck; return where and when it was."""
        if errand.point == TAKEN:
            return await self._strike_the_next(owner, errand)
        sinks, reached = self.running.sinks, False
        if errand.point == RANDOM:
            await asyncio.sleep(self.random.uniform(0.0, 2.0))
        elif errand.point == UNANSWERED:
            sinks.before_answers(lambda: strike(owner, errand.how))
            reached = await self._is_struck(owner)
            sinks.before_answers(lambda: None)
        else:
            self._order(owner, errand)
            reached = await self._is_struck(owner)
        if not reached:
            strike(owner, errand.how)
        return errand.point if reached else RANDOM, time.monotonic()

    async def _strike_the_next(self, owner: Site, errand: Errand) -> tuple[str, float]:
        """Kill the owner; if it is the right standby that takes over, it is struck while it does.

        The other one has the journal then.
        """
        standby = next(one for one in self.running.members if one is not owner)
        self._order(standby, errand)
        strike(owner, KILLED)
        at = time.monotonic()
        await self.running.owned(by_other_than=owner)
        return errand.point if is_down(standby) else RANDOM, at

    async def _is_struck(self, owner: Site) -> bool:
        """Wait for the errand's point; return False if it does not come."""
        with suppress(TimeoutError):
            await until(lambda: is_down(owner), _PATIENCE)
        return is_down(owner)

    def _order(self, member: Site, errand: Errand) -> None:
        order(member, errand, 1 if errand.point in _RARE else self.random.randint(1, 3))

    async def _recover(self, member: Site) -> None:
        """Start a dead replica, wake a frozen one, which must notice that it lost the journal."""
        orders(member).unlink(missing_ok=True)
        if is_frozen(member):
            await asyncio.sleep(self.random.uniform(0.0, 1.0))
            before = member.errors().count("journal_lost")

            def has_noticed() -> bool:
                # Again and again: what was struck at random may come to its errand now.
                strike(member, "woken")
                return member.errors().count("journal_lost") > before or not had_it

            had_it = member.errors().count('"started"') > before
            await until(has_noticed, _NOTICED)
        elif member.process.returncode is not None:
            await begin(member)


def orders(member: Site) -> Path:
    """Return the file that tells a replica where it is struck."""
    return member.folder / "orders"


def order(member: Site, errand: Errand, times: int = 1) -> None:
    """Let a replica be struck the next time, or after several times, that it is at a point."""
    deed = {KILLED: "kill", FROZEN: "stop"}[errand.how]
    fresh = orders(member).with_suffix(".new")
    fresh.write_text(f"{errand.point}:{times}:{deed}")
    fresh.replace(orders(member))


async def begin(member: Site, *options: str) -> None:
    """Start a replica again that obeys its orders."""
    member.kill()
    await member.process.wait()
    member.options = ("--orders", str(orders(member)), *options)
    await member.start(at=ANSWER)


def strike(member: Site, how: str) -> None:
    """Kill, freeze or wake a replica, which may have ended meanwhile."""
    with suppress(ProcessLookupError):
        member.process.send_signal(_SIGNALS[how])


def is_down(member: Site) -> bool:
    """Return True if a replica has ended or is frozen."""
    return member.process.returncode is not None or is_frozen(member)


@dataclass(frozen=True)
class Outcome:
    """What a run has shown."""

    rounds: int
    shown: int
    again: dict[str, int]
    recovery: float
    opinion: str
    struck: list[tuple[str, str, float]]

    def slowest(self, how: str) -> tuple[float, str]:
        """Return the longest take-over after a kill or a freeze, and where that was."""
        return max((took, point) for done, point, took in self.struck if done == how)

    def figures(self) -> dict[str, Any]:
        """Return the columns of the ledger; nothing was lost."""
        times = Counter(f"{point}, {how}" for how, point, _ in self.struck)
        return {
            "times": self.rounds,
            "events": self.shown,
            "lost": 0,
            "again": self.again,
            "recovery": self.recovery,
            "more": f"taken over after a kill within {self.slowest(KILLED)[0]:.1f} s, after a "
            f"freeze within {self.slowest(FROZEN)[0]:.1f} s; {self.opinion}; "
            + ", ".join(f"{point}: {number}" for point, number in sorted(times.items())),
        }


async def survived(
    folder: Path, dsn: str, rounds: int, *, shards: int = 1, seed: int = 0
) -> Outcome:
    """Run so many rounds; return what was measured.

    Fails if a row is lost, if the deduplicating sink has an event twice, if others have more again
    than was in flight, or if two processes wrote in one epoch.
    """
    async with replicas(folder, dsn, shards=shards) as running:
        for member in running.members:
            await begin(member)
        chaos = Chaos(running, Random(seed))
        await chaos.rounds(rounds)
        shown, seconds = await running.settled()
        await running.stop()
        left, opinion = await running.judged()
        again = running.again()

        assert left == dict.fromkeys(running.books, 0)
        assert running.sinks.bulk.book.again == 0
        assert running.shared_epochs() == []
        assert max(again.values()) < (rounds + len(running.members)) * IN_FLIGHT
        return Outcome(rounds, shown.total(), again, seconds, opinion, chaos.struck)
