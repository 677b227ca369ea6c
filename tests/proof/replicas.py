"""Three replicas with one journal in PostgreSQL, between a simulated Cloudflare and five sinks."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.end_to_end.processes import TOKEN, Cloudflare, cloudflare, until
from tests.proof.auditing import audited
from tests.proof.books import Digest
from tests.proof.destinations import FileBook
from tests.proof.ledger import Ledger
from tests.proof.sinks import Five, five
from tests.proof.site import Books, Site, account, missing, quick

LEASE = 3.0
SCHEMA = "forwarder"
_RATE = 25
"""Logins a second."""
_PATIENCE = 60.0
_STARTING = 600.0
"""Seconds after which a start has failed; a busy machine makes it slow, which proves nothing."""
_RECORDED = f"""
CREATE TABLE public.moves (shard INT NOT NULL, epoch BIGINT NOT NULL, backend BIGINT NOT NULL);
CREATE FUNCTION public.record() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
INSERT INTO public.moves VALUES (NEW.shard, NEW.epoch, pg_backend_pid()); RETURN NULL; END $$;
CREATE TRIGGER record AFTER UPDATE ON {SCHEMA}.fence FOR EACH ROW WHEN (OLD.epoch = NEW.epoch)
EXECUTE FUNCTION public.record();
"""
"""Lets the database record which connection has committed in which epoch."""


class Replicas:
    """Three daemons that share a journal; nothing of what they read is ever read again."""

    def __init__(
        self, folder: Path, api: Cloudflare, sinks: Five, dsn: str, accounts: Mapping[str, str]
    ) -> None:
        self.sinks = sinks
        self._accounts = accounts
        self.database = dsn
        self._lines = FileBook(folder, "r*/out.*")
        self._folder, self._api = folder, api
        self.members: list[Site] = []

    async def start(self, journal: Mapping[str, Any], options: tuple[str, ...]) -> None:
        """Make the tables, and start three replicas; see ``replicas``."""
        for number in range(3):
            self.members.append(self._member(f"r{number}", dict(journal)))
            self.members[-1].options = options
        first = self.members[0]
        first.write_settings()
        code, _ = await first.command("journal", "create")
        assert code == 0
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute(_RECORDED)
        for member in self.members:
            await member.start(at="")
        await self.all_run()
        await self.owned()

    def _member(self, name: str, journal: dict[str, Any]) -> Site:
        folder = self._folder / name
        folder.mkdir()
        member = Site(folder, self._api, self._settings())
        member.settings["journal"] |= {
            "type": "postgres", "dsn": self.database, "schema": SCHEMA, "lease": f"{LEASE:.0f}s",
        } | journal  # fmt: skip
        # A turn of the loop lasts as long as the process is frozen.
        member.timed = False
        # A shard for each token, as far as there are shards.
        member.settings["accounts"] = [
            account(self._api.url, account_id=one, name=f"company-{number}", api_token=token)
            for number, (one, token) in enumerate(self._accounts.items())
        ]
        # The least that settings allow, so that nothing repairs a loss.
        for one in member.settings["accounts"]:
            for stream in one["streams"].values():
                stream |= {"reconcile": [], "overlap": "2s"}
        return member

    def _settings(self) -> dict[str, Any]:
        settings = self.sinks.settings()
        del settings["file"]
        return settings | {"stdout": quick({"type": "stdout", "format": "raw"})}

    async def restart(self, *members: Site) -> None:
        """Start these replicas again, with what has changed in their settings."""
        for member in members:
            member.kill()
            await member.process.wait()
            await member.start(at="")
        await self.all_run()

    async def all_run(self) -> None:
        """Return when each replica has begun to stand by."""
        await until(lambda: all("standing_by" in one.errors() for one in self.members), _STARTING)

    @property
    def books(self) -> Books:
        """Return what each sink has, whichever replica has delivered it."""
        others = {name: book for name, book in self.sinks.books.items() if name != "file"}
        return others | {"stdout": lambda: self._lines.book}

    def again(self) -> dict[str, int]:
        """Return the deliveries beyond the first, by sink; bulk's are deduplicated there."""
        found = {name: book().again for name, book in self.books.items()}
        return found | {"bulk (deduplicated)": self.sinks.bulk.deduplicated}

    def owners(self) -> list[Site | None]:
        """Return who has each shard by the judgement of the database."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            found = connection.execute(
                "SELECT CASE WHEN expires_at >= clock_timestamp() THEN owner ELSE '' END "
                f"FROM {SCHEMA}.lease ORDER BY shard"
            ).fetchall()
        return [self._named(str(owner)) for (owner,) in found]

    def owner(self) -> Site | None:
        """Return who has the first shard, which is the only one unless there are several."""
        return self.owners()[0]

    def _named(self, owner: str) -> Site | None:
        words = re.split(r"\W+", owner)
        return next((one for one in self.members if str(one.process.pid) in words), None)

    def shared_epochs(self) -> list[tuple[int, int]]:
        """Return the shards and epochs in which more than one connection has committed."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            return connection.execute(
                "SELECT shard, epoch FROM public.moves GROUP BY shard, epoch "
                "HAVING count(DISTINCT backend) > 1"
            ).fetchall()

    async def owned(self, *, by_other_than: Site | None = None) -> Site:
        """Return the next owner, of the first shard, once each shard has one."""
        return (await self.all_owned(by_other_than))[0]

    async def all_owned(self, by_other_than: Site | None = None) -> list[Site]:
        """Return the owner of each shard, once all have one."""
        found: list[Site | None] = []

        def is_owned() -> bool:
            found[:] = self.owners()
            return not {None, by_other_than} & set(found)

        await until(is_owned, _PATIENCE)
        return [one for one in found if one is not None]

    async def settled(self, wait: float = 120.0) -> tuple[Counter[Digest], float]:
        """Return when all that the API has is everywhere: the rows, the seconds that it took."""
        began, everything = time.monotonic(), await self.members[0].visible()
        await until(lambda: len(self.sinks.hec.book.arrived) >= everything, wait)
        shown, _ = await self.members[0].settled(self.books, wait, self.sinks.refused)
        return shown, time.monotonic() - began

    async def stop(self) -> None:
        """Ask all of them to end, one after the other."""
        for member in self.members:
            if member.process.returncode is None:
                assert await member.stop() == 0

    async def judged(self) -> tuple[dict[str, int], str]:
        """Return, after ``stop``, what each sink lacks, and what ``forwarder verify`` says."""
        first = self.members[0]
        shown = await first.shown()
        dead = await first.dead_letters()
        assert dead.keys() <= {"bulk"}
        left = missing(shown, self.books, {"bulk": lambda: dead.get("bulk", set())})
        return left, await audited(first)

    async def prove(
        self,
        ledger: Ledger,
        what: str,
        *,
        events: int,
        recovery: float,
        times: int = 1,
        more: str = "",
    ) -> None:
        """Stop, hold what every sink has against what the API had, and put it into ``ledger``."""
        await self.stop()
        left, opinion = await self.judged()
        assert left == dict.fromkeys(self.books, 0)
        ledger.row(
            "Replicas",
            what,
            times=times,
            events=events,
            lost=sum(left.values()),
            again=self.again(),
            recovery=recovery,
            more="; ".join(filter(None, (more, opinion))),
        )

    async def aclose(self) -> None:
        """End what runs, stopped processes included."""
        for member in self.members:
            await member.aclose()


def is_frozen(member: Site) -> bool:
    """Return True while a replica is stopped by SIGSTOP."""
    try:
        return bool(member.usage().status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


@asynccontextmanager
async def replicas(
    folder: Path, dsn: str, *options: str, shards: int = 1, **journal: Any
) -> AsyncIterator[Replicas]:
    """Run three replicas on the database at ``dsn``, with an account for each shard.

    ``options`` are those of ``killable``, ``journal`` is more of the journal's settings.
    """
    accounts = {f"{number:032x}": f"{TOKEN}-{number}" for number in range(1, shards + 1)}
    known = [
        word for pair in accounts.items() for word in ("--account", pair[0], "--token", pair[1])
    ]
    rates = ("--rate", str(_RATE // shards), "--scim-rate", "3", "--history", "2m")
    async with five(folder) as sinks, cloudflare(*rates, *known) as api:
        running = Replicas(folder, api, sinks, dsn, accounts)
        journal["shards"] = shards
        try:
            await running.start(journal, options)
            yield running
        finally:
            await running.aclose()
