"""``forwarder verify``: re-reads the API for a window and asks the journal about every row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from forwarder.config import AccountSettings, ForwarderSettings
from forwarder.core.contracts import StreamKey, Window
from forwarder.core.log import KeySet
from forwarder.core.source_contract import SourceContext, StreamPlan
from forwarder.core.timing import SystemClock
from forwarder.ingest.backfill import verify
from forwarder.journal import JournalReader
from forwarder.journal.auditing import Verdict, judge
from forwarder.journal.storage import recall
from forwarder.journal.stream_log import load_key_sets
from forwarder.runtime.streams import USER_AGENT


@dataclass(frozen=True, slots=True)
class Audit:
    """The verdict over one stream for one sink; not ``joined``: the journal never had the sink."""

    account: str
    stream: str
    sink: str
    verdict: Verdict
    joined: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """What to audit; empty means all."""

    accounts: Collection[str] = ()
    streams: Collection[str] = ()
    sinks: Collection[str] = ()


async def audit(settings: ForwarderSettings, window: Window, choice: Choice) -> list[Audit]:
    """Return a verdict for every chosen stream and sink; raises ``TransientError`` by the API.

    Reads the journal read-only, beside a running daemon or without one, and spends requests of
    the same token.
    """
    reader = JournalReader(settings.root.state_dir)
    sinks = [s.name for s in settings.sinks if not choice.sinks or s.name in choice.sinks]
    try:
        found: list[Audit] = []
        for account in settings.accounts:
            if not choice.accounts or {account.account_id, account.label} & set(choice.accounts):
                found += await _audit_account(reader, account, window, sinks, choice.streams)
        return found
    finally:
        await reader.aclose()


async def _audit_account(
    reader: JournalReader,
    account: AccountSettings,
    window: Window,
    sinks: Sequence[str],
    streams: Collection[str],
) -> list[Audit]:
    clock = SystemClock()
    shared = account.plugin.share(clock, None)
    source = account.plugin(account.config, SourceContext(clock, shared, USER_AGENT))
    try:
        found: list[Audit] = []
        known = await reader.query(_sinks)
        for name, plan in source.streams().items():
            if not streams or name in streams:
                key = StreamKey(account.account_id, name)
                verdicts = await _audit_stream(reader, key, plan, window, sinks)
                found += [
                    Audit(account.label, name, sink, verdict, joined=sink in known)
                    for sink, verdict in verdicts.items()
                ]
        return found
    finally:
        await source.aclose()


async def _audit_stream(
    reader: JournalReader, key: StreamKey, plan: StreamPlan, window: Window, sinks: Sequence[str]
) -> dict[str, Verdict]:
    group = await reader.query(lambda c: recall(c, str(key), "group"))
    parts = await plan.source.parts((group or {}).get("memory"), await plan.source.server_time_us())
    totals = dict.fromkeys(sinks, Verdict())
    if parts.ids == ():
        return totals
    key_sets = await reader.query(partial(_key_sets, key))

    async def ask(records: Any, aliases: Any) -> dict[str, Verdict]:
        return await reader.query(lambda c: judge(c, key, records, aliases, sinks))

    async for verdicts in verify(plan.source, window, parts.ids or (), key_sets, ask):
        totals = {sink: totals[sink].plus(verdict) for sink, verdict in verdicts.items()}
    return totals


def _sinks(connection: Any) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sink")}


def _key_sets(key: StreamKey, connection: Any) -> list[KeySet]:
    found = connection.execute(
        "SELECT id FROM stream WHERE account_id = ? AND name = ?", (key.account_id, key.stream)
    ).fetchone()
    return load_key_sets(connection, found[0]) if found else []
