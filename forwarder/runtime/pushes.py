"""Stores what is pushed in the journal of this process, while it has one, and shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from forwarder.config import LogpushSettings
from forwarder.core.contracts import PUSH
from forwarder.core.errors import NeedsOperatorError, NotTakingError
from forwarder.core.journal import Cursor
from forwarder.core.log import Addition, ReaderState
from forwarder.core.source_contract import PushedPart, SourceContext
from forwarder.core.timing import format_us
from forwarder.ingest.events import PageStored
from forwarder.runtime.cell import Cell, Seat
from forwarder.runtime.replica import USER_AGENT, Replica
from forwarder.sources.logpush.events import LogpushListening, LogpushTlsUnusable
from forwarder.sources.logpush.receiver import Receiver
from forwarder.transport.listening import protection


class CellIntake:
    """The ``core.source_contract.Intake`` of a process."""

    def __init__(self, replica: Replica, seat: Seat) -> None:
        """Look at ``seat`` at every push: its cells come and go."""
        self._replica = replica
        self._seat = seat

    def account(self, name: str) -> tuple[str, str] | None:
        """Return id and label of the account with this id or label, None if there is none."""
        for account in self._replica.settings.accounts:
            if name in {account.account_id, account.label}:
                return account.account_id, account.label
        return None

    def elsewhere(self, account_id: str) -> str:
        """Return where the owner of an account's shard takes pushes; empty: here, or nowhere."""
        shard, fleet = self._replica.shard_of(account_id), self._seat.fleet
        owner = next((one.owner for one in fleet.shards if one.shard == shard), "")
        if shard in self._seat.cells or not owner:
            return ""
        return next((one.push_url for one in fleet.replicas if one.name == owner), "")

    def here(self) -> str:
        """Return the address that this replica has announced; never what the database says."""
        return self._replica.push_url

    async def admit(self, account_id: str) -> None:
        """Return if rows of an account can be stored now; raises ``NotTakingError``."""
        cell = self._cell(account_id)
        if cell.trouble is not None:
            raise NotTakingError("failed", "the journal cannot be written")
        if not await cell.gate.admits():
            raise NotTakingError("gate_closed", "the journal is full")

    async def streams(self, account_id: str) -> frozenset[str]:
        """Return the streams of an account that were pushed; raises ``NotTakingError``."""
        cursors = await self._cell(account_id).journal.cursors()
        return frozenset(
            one.stream for one in cursors if (one.account_id, one.reader) == (account_id, PUSH)
        )

    async def store(self, part: PushedPart) -> bool:
        """Append a part to its stream's log; return False if it was stored before.

        Raises ``NotTakingError`` if this replica lost the account's shard in between.
        """
        clock, key = self._replica.clock, part.key
        began, seen_us = clock.monotonic(), clock.now_us()
        addition = Addition(
            reader=PUSH,
            state=ReaderState(seen_us),
            seen_us=seen_us,
            records=part.records,
            lost=part.lost,
            settled=not part.lost,
            twins=part.twins,
            once=part.name,
        )
        log = self._cell(key.account_id).journal.stream_log(key)
        appended = await log.append(addition)
        times = part.records.times_us
        stored = PageStored(
            self._replica.rendering.labels.get(key.account_id, key.account_id),
            key.stream,
            PUSH,
            len(times),
            len(appended.new),
            appended.reshaped,
            part.malformed,
            sum(times[index] is None for index in appended.new),
            (),
            clock.monotonic() - began,
            amended=0,
        )
        self._replica.emit(stored)
        return not appended.repeated

    def _cell(self, account_id: str) -> Cell:
        cell = self._seat.cells.get(self._replica.shard_of(account_id))
        # Before the sinks have joined, a row that is stored would not be theirs.
        if cell is None or not cell.started:
            reason = "this replica does not have the journal of the account at present"
            raise NotTakingError("no_owner", reason)
        return cell


async def listen(replica: Replica, seat: Seat) -> Receiver | None:
    """Start the receiver, if the settings have one.

    Raises ``ConfigError`` if its address or certificate cannot be used.
    """
    settings = replica.settings.root.logpush
    if settings is None:
        return None
    context = SourceContext(replica.clock, None, USER_AGENT, replica.emit)
    receiver = Receiver(settings, CellIntake(replica, seat), context)

    def on_trouble(error: NeedsOperatorError) -> None:
        replica.emit(LogpushTlsUnusable(str(error), error.hint))

    tls = protection("logpush", settings.tls, on_trouble, replica.emit)
    host, port = settings.address
    url = await receiver.start(host, port, tls)
    replica.listens(push_url=seen_from_outside(url, settings.peer.host))
    replica.emit(LogpushListening(url))
    return receiver


def seen_from_outside(url: str, host: str | None) -> str:
    """Return a base URL with another host, if one is given."""
    if host is None:
        return url
    scheme, port = url.partition("://")[0], url.rpartition(":")[2]
    # An IPv6 address stands in brackets in a URL.
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def pushes_json(
    cursors: Iterable[Cursor],
    labels: Mapping[str, str],
    rows: Mapping[str, float],
    oldest_s: Mapping[str, float],
    now_us: int,
) -> list[dict[str, Any]]:
    """Return what was pushed as /status shows it, an entry for each dataset of an account.

    ``labels`` are the accounts' names by id. Since the process began: ``rows`` by
    ``account/stream``, and by ``account/dataset`` the age of the oldest row of the last push.
    """
    found = []
    for one in cursors:
        if one.reader == PUSH:
            account = labels.get(one.account_id, one.account_id)
            dataset = one.stream.removeprefix(LogpushSettings.stream_prefix)
            age = oldest_s.get(f"{account}/{dataset}")
            entry = {
                "account": account,
                "dataset": dataset,
                "last_push": format_us(one.covered_until_us),
                "last_push_seconds_ago": round((now_us - one.covered_until_us) / 1_000_000, 1),
                "rows": round(rows.get(f"{account}/{one.stream}", 0)),
                "oldest_row_seconds": None if age is None else round(age, 1),
            }
            found.append(entry)
    return found
