"""What ``forwarder verify`` finds: what the API shows against what the journal knows.

Reads both and changes neither, beside a running daemon or without one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from forwarder.config import AccountSettings, ForwarderSettings
from forwarder.core.contracts import LIVE, StreamKey, Window
from forwarder.core.journal import JournalView, Verdict
from forwarder.core.source_contract import Source, StreamPlan
from forwarder.ingest.backfill import pages_of, unread_after, verify
from forwarder.runtime.opening import open_view
from forwarder.runtime.workers import source_without_daemon
from forwarder.sources.logpush.comparing import (
    APART_US,
    Comparing,
    Comparison,
    Seen,
    login_polled,
    login_pushed,
)
from forwarder.sources.logpush.mapping import LOGINS

_HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Audit:
    """The verdict over one stream for one sink; if not ``joined``, the journal has no such sink.

    ``covered_until_us`` is the stream's live position; None if nothing was read yet.
    """

    account: str
    stream: str
    sink: str
    verdict: Verdict
    joined: bool
    covered_until_us: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """What to audit; empty means all."""

    accounts: Collection[str] = ()
    streams: Collection[str] = ()
    sinks: Collection[str] = ()

    def has(self, account: AccountSettings) -> bool:
        """Return True if an account is chosen, by its id or its name."""
        return not self.accounts or not {account.account_id, account.label}.isdisjoint(
            self.accounts
        )


async def audit(settings: ForwarderSettings, window: Window, choice: Choice) -> list[Audit]:
    """Return a verdict for every chosen stream and sink.

    Reads the journal read-only, beside a running daemon or without one. Its requests count against
    the token's limit beside the daemon's. Raises ``TransientError`` if the API fails.
    """
    reader = open_view(settings.root.state_dir, settings.root.journal)
    sinks = [s.name for s in settings.sinks if not choice.sinks or s.name in choice.sinks]
    try:
        found: list[Audit] = []
        for account in settings.accounts:
            if choice.has(account):
                found += await _audit_account(reader, account, window, sinks, choice.streams)
        return found
    finally:
        await reader.aclose()


async def _audit_account(
    reader: JournalView,
    account: AccountSettings,
    window: Window,
    sinks: Sequence[str],
    streams: Collection[str],
) -> list[Audit]:
    source = source_without_daemon(account)
    try:
        found: list[Audit] = []
        known = {sink.name for sink in await reader.sinks()}
        # Taken before the rows are read: what the reader has not passed by now, it may pass later.
        covered = {
            StreamKey(one.account_id, one.stream): one.covered_until_us
            for one in await reader.cursors()
            if one.reader == LIVE
        }
        for name, plan in source.streams().items():
            if not streams or name in streams:
                key = StreamKey(account.account_id, name)
                verdicts = await _audit_stream(reader, key, plan, window, sinks, covered.get(key))
                found += [
                    Audit(account.label, name, sink, verdict, sink in known, covered.get(key))
                    for sink, verdict in verdicts.items()
                ]
        return found
    finally:
        await source.aclose()


async def _audit_stream(
    reader: JournalView,
    key: StreamKey,
    plan: StreamPlan,
    window: Window,
    sinks: Sequence[str],
    covered_us: int | None,
) -> dict[str, Verdict]:
    # The roster of parts is the poller's, which may know more than the API shows at this moment.
    group = await reader.recall(str(key), "group")
    now_us = await plan.source.server_time_us()
    parts = await plan.source.parts((group or {}).get("memory"), now_us)
    totals = dict.fromkeys(sinks, Verdict())
    # Nothing can have been stored yet: the stream has parts, and the API names none of them.
    if parts.ids == ():
        return totals
    key_sets = await reader.key_sets(key)
    unread_us = unread_after(plan, covered_us, now_us)

    async def ask(records: Any, aliases: Any) -> dict[str, Verdict]:
        return dict(await reader.judge(key, records, aliases, sinks, unread_us))

    async for verdicts in verify(plan.source, window, parts.ids or (), key_sets, ask):
        totals = {sink: totals[sink].plus(verdict) for sink, verdict in verdicts.items()}
    return totals


@dataclass(frozen=True, slots=True)
class PushAudit:
    """How the pushed logins of one account compare with those that the API shows."""

    account: str
    stream: str
    found: Comparison


async def audit_pushes(
    settings: ForwarderSettings, window: Window, choice: Choice
) -> list[PushAudit]:
    """Compare polled with pushed logins, for each chosen account whose journal has both.

    Reads that log from the API once more, an hour at a time; what is held is an hour of logins.
    Raises as ``audit``.
    """
    logpush = settings.root.logpush
    stream = "" if logpush is None else logpush.stream_prefix + LOGINS
    if not stream or (choice.streams and stream not in choice.streams):
        return []
    view = open_view(settings.root.state_dir, settings.root.journal)
    try:
        known = {one.account_id for one in await view.cursors() if one.stream == stream}
        return [
            PushAudit(account.label, stream, found)
            for account in settings.accounts
            if account.account_id in known and choice.has(account)
            if (found := await _compare(view, account, stream, window)) is not None
        ]
    finally:
        await view.aclose()


async def _compare(
    view: JournalView, account: AccountSettings, stream: str, window: Window
) -> Comparison | None:
    """Compare one account's logins; None if they are not polled."""
    source, key = source_without_daemon(account), StreamKey(account.account_id, stream)
    try:
        plan = source.streams().get(LOGINS)
        if plan is None:
            return None
        comparing = Comparing(window)
        for hour in _hours(Window(window.since_us - APART_US, window.until_us + APART_US)):
            polled = await _polled(plan.source, hour)
            pushed = await _pushed(view, key, hour)
            if pushed is None:
                comparing.forget(polled)
            else:
                comparing.add(polled, pushed, hour.until_us)
        return comparing.result()
    finally:
        await source.aclose()


def _hours(window: Window) -> Iterator[Window]:
    for since_us in range(window.since_us, window.until_us + 1, _HOUR_US):
        yield Window(since_us, min(since_us + _HOUR_US - 1, window.until_us))


async def _polled(source: Source, hour: Window) -> Collection[Seen]:
    # The walk reads some seconds twice, and rows around the window come along.
    seen: dict[bytes, Seen] = {}
    async for page in pages_of(source, hour, ()):
        for one in page.records:
            if one.time_us is not None and hour.since_us <= one.time_us <= hour.until_us:
                seen[one.identity] = login_polled(orjson.loads(one.row), one.time_us)
    return seen.values()


async def _pushed(view: JournalView, key: StreamKey, hour: Window) -> Collection[Seen] | None:
    """Return the pushed logins of an hour; None if the journal may have had more."""
    # A row that came again in another batch is stored again, with the same identity.
    seen: dict[bytes, Seen] = {}
    start = 0
    while pages := await view.pages(key, hour, start):
        for page in pages:
            for place, (time_us, row) in enumerate(zip(page.times_us, page.rows, strict=True)):
                if hour.since_us <= time_us <= hour.until_us:
                    seen[page.ids[16 * place : 16 * place + 16]] = login_pushed(row, time_us)
        start = pages[-1].end_offset
    return None if pages is None else seen.values()
