"""What commands find out without a daemon and without changing anything.

``preview``: what each sink would receive. ``check``: can the settings be used; with ``--live`` what
plugins find at the other side.
"""

from __future__ import annotations

import asyncio
import os
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import orjson

from forwarder.config import AccountSettings, ForwarderSettings, SinkSettings
from forwarder.core.contracts import Finding, Rendered, StoredPage
from forwarder.core.errors import ConfigError, Fault, ForwarderError, NeedsOperatorError
from forwarder.core.identity import Identifier
from forwarder.core.source_contract import Pushing
from forwarder.core.timing import SystemClock, parse_us
from forwarder.runtime.opening import check_address, check_fleet
from forwarder.runtime.replica import Rendering, run_fast
from forwarder.runtime.workers import preflight, sink_of, source_without_daemon
from forwarder.sources.logpush.config import LogpushConfig
from forwarder.sources.logpush.jobs import OF_ZONES, jobs_here, judged

_LONGEST = 60.0
_REACHABLE = "is it reachable?"
_TIME_KEYS = ("timestamp", "created_at", "logged_at", "datetime", "time")
EXAMPLES: Sequence[tuple[str, Mapping[str, Any]]] = (
    (
        "access_requests",
        {
            "action": "login",
            "allowed": True,
            "app_domain": "test.example.com/admin",
            "app_uid": "df7e2a5f-02b7-4d9d-af26-8d1988fca630",
            "connection": "saml",
            "country": "us",
            "created_at": "2026-01-01T05:20:00.12345Z",
            "ip_address": "198.51.100.166",
            "ray_id": "187d944c61940c77",
            "user_email": "user@example.com",
        },
    ),
    (
        "scim_updates",
        {
            "cf_resource_id": "bd97ef8d-7986-43e3-9ee0-c25dda33e4b0",
            "idp_id": "df7e2a5f-02b7-4d9d-af26-8d1988fca630",
            "idp_resource_id": "all_employees",
            "logged_at": "2026-01-01T05:20:00.12345Z",
            "request_body": '{"displayName":"ALL_EMPLOYEES"}',
            "http_method": "POST",
            "resource_group_name": "ALL_EMPLOYEES",
            "resource_type": "GROUP",
            "status": "SUCCESS",
        },
    ),
    (
        "account_audit",
        {
            "id": "f174be97-19b1-40d6-954d-70cd5fbd52db",
            "action": {
                "description": "Update an Access policy",
                "result": "success",
                "time": "2026-01-01T05:20:00Z",
                "type": "update",
            },
            "actor": {"email": "user@example.com", "ip_address": "198.51.100.166", "type": "user"},
            "raw": {"method": "PUT", "status_code": 200, "uri": "/accounts/1/access/policies/2"},
            "resource": {"id": "2", "product": "access", "request": {"decision": "allow"}},
        },
    ),
)
"""Shown when no rows are given; shaped like the API's documentation, with its example values."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One row and what became of it.

    ``bodies`` has None where a sink's filters drop it, and the reason where rendering it failed.
    """

    stream: str
    row: Mapping[str, Any]
    bodies: Mapping[str, bytes | None]


def previews(
    settings: ForwarderSettings,
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    sinks: Sequence[str],
    now_us: int,
) -> list[Preview]:
    """Return what the sinks (all if none is named) would receive for (stream, row) pairs."""
    rendering = Rendering(settings)
    renders = {
        sink.name: rendering.render_for(sink)
        for sink in settings.sinks
        if not sinks or sink.name in sinks
    }
    # A row does not say whose it is; the first account stands for all.
    account_id = settings.accounts[0].account_id
    found: list[Preview] = []
    for stream, row in rows:
        page = _page(account_id, stream, row, now_us)
        bodies = {name: shown(render(page)) for name, render in renders.items()}
        found.append(Preview(stream, row, bodies))
    return found


def stream_of(row: Mapping[str, Any]) -> str:
    """Return the stream that a row most likely came from."""
    if isinstance(row.get("action"), Mapping):
        return "account_audit"
    if "knock_request_id" in row:
        return "jit_requests"
    if "cfRayId" in row:
        return "non_identity_logins"
    return "scim_updates" if {"idp_id", "resource_type"} & row.keys() else "access_requests"


def shown(rendered: Rendered) -> bytes | None:
    """Return what a page of one row became: its body, or in brackets why there is none.

    None if the sink's filters drop it.
    """
    if rendered.failed:
        return f"({rendered.failed[0].reason})".encode()
    return next((event.body for event in rendered.events), None)


def _page(account_id: str, stream: str, row: Mapping[str, Any], now_us: int) -> StoredPage:
    # Through a stored page, as the daemon does it, so that the shown event has the same id.
    inner = [one for key in ("action", "event") if isinstance(one := row.get(key), Mapping)]
    times = (parse_us(place.get(key)) for place in (*inner, row) for key in _TIME_KEYS)
    time_us = next((t for t in times if t is not None), now_us)
    identity = Identifier(account_id, stream).identity(row)
    body = orjson.dumps([row])
    return StoredPage(1, account_id, stream, now_us, array("q", [time_us]), identity, body)


def check_usable(settings: ForwarderSettings) -> None:
    """Raise ``ConfigError`` if plugins refuse the settings, or the journal cannot be used."""
    # Sinks may refuse together what is valid key by key.
    preflight(settings)
    check_address(settings.root.journal)
    if fault := _folder_fault(settings.root.state_dir):
        raise ConfigError([fault])


def _folder_fault(state_dir: Path) -> Fault | None:
    """Return what is wrong with the journal's folder, or None; nothing stays behind."""
    subject, absolute = f"state_dir {state_dir}", state_dir.absolute()
    nearest = next(path for path in (absolute, *absolute.parents) if path.exists())
    if not nearest.is_dir():
        return Fault(subject, f"{nearest} is not a folder", "choose another state_dir")
    if os.access(nearest, os.W_OK | os.X_OK) and (nearest == absolute or _takes_folders(nearest)):
        return None
    hint = "give the folder to the user that runs the forwarder, or choose another state_dir"
    return Fault(subject, f"this user may not write to {nearest}", hint)


def _takes_folders(parent: Path) -> bool:
    """Return True if a folder can be made there; it is removed at once."""
    # Permissions are not all: root may write everywhere, and not in /proc.
    try:
        Path(mkdtemp(dir=parent)).rmdir()
    except OSError:
        return False
    return True


def diagnosis(settings: ForwarderSettings) -> Sequence[Finding]:
    """Run ``diagnose`` on the loop that the daemon has, so that errors read alike."""
    return run_fast(diagnose(settings))


async def diagnose(settings: ForwarderSettings) -> Sequence[Finding]:
    """Diagnose journal, accounts and sinks at the same time; return their findings in order.

    Every subject begins with its account or sink, since two sinks of one type find the same.
    """
    found = await asyncio.gather(
        _diagnose_journal(settings),
        *(_diagnose_account(account) for account in settings.accounts),
        _diagnose_pushes(settings.root.logpush, settings.accounts),
        *(_diagnose_sink(sink) for sink in settings.sinks),
    )
    return [finding for findings in found for finding in findings]


async def _diagnose_journal(settings: ForwarderSettings) -> Sequence[Finding]:
    """Check that replicas with these settings could work; a file has nobody to ask."""
    if settings.root.journal.type == "sqlite":
        return []
    try:
        async with asyncio.timeout(_LONGEST):
            await asyncio.to_thread(check_fleet, settings)
    except ConfigError as error:
        return [Finding("fault", "journal", one.problem, one.hint) for one in error.faults]
    except ForwarderError as error:
        return [Finding("fault", "journal", str(error), getattr(error, "hint", ""))]
    except TimeoutError:
        return [Finding("fault", "journal", f"no answer within {_LONGEST:.0f} s", _REACHABLE)]
    return [Finding("ok", "journal", "can be reached, and may be used")]


async def _diagnose_account(account: AccountSettings) -> Sequence[Finding]:
    source = source_without_daemon(account)
    return await _findings(source, f"account {account.label}", lambda: _opened(source))


async def _diagnose_sink(settings: SinkSettings) -> Sequence[Finding]:
    sink = sink_of(settings, SystemClock())
    return await _findings(sink, f"sink {settings.name}", lambda: _opened(sink))


async def _opened(plugin: Any) -> Sequence[Finding]:
    """Let a plugin diagnose; one that cannot is opened instead."""
    # ``diagnose`` is optional in both contracts.
    if hasattr(plugin, "diagnose"):
        found: Sequence[Finding] = await plugin.diagnose()
        return found
    await plugin.open()
    return [Finding("ok", "", "can be reached")]


async def _diagnose_pushes(
    logpush: LogpushConfig | None, accounts: Sequence[AccountSettings]
) -> Sequence[Finding]:
    """Judge the jobs that push to the receiver, as far as the accounts' tokens may read them."""
    if logpush is None:
        return []
    found = await asyncio.gather(*(_jobs_of(account, logpush.datasets) for account in accounts))
    zones = ", ".join(name for name in logpush.datasets if name in OF_ZONES)
    text = f"jobs of {zones} belong to zones, which the settings do not name"
    own = [Finding("ok", "logpush", text, _EACH_ZONE)] if zones else []
    return [*(finding for findings in found for finding in findings), *own]


async def _jobs_of(account: AccountSettings, datasets: Sequence[str]) -> Sequence[Finding]:
    source = source_without_daemon(account)
    expected = [name for name in datasets if name not in OF_ZONES]

    async def look() -> Sequence[Finding]:
        if not isinstance(source, Pushing):
            return []
        try:
            rows = await source.push_jobs()
        except NeedsOperatorError as error:
            return [Finding("warning", "logpush", f"jobs were not checked: {error}", _MAY_READ)]
        return judged(jobs_here(rows, {account.account_id, account.label}), expected)

    return await _findings(source, f"account {account.label}", look)


_MAY_READ = (
    "a token with `Logs Edit` may read jobs, for datasets of Access also with `Zero Trust: PII "
    "Read`; `forwarder logpush job --check --token-file FILE` takes one for this alone"
)
_EACH_ZONE = "for each: `forwarder logpush job --account NAME --dataset DATASET --zone ID --check`"


async def _findings(
    plugin: Any, subject: str, look: Callable[[], Awaitable[Sequence[Finding]]]
) -> Sequence[Finding]:
    """Return what ``look`` finds at a plugin's other side, which is closed then."""
    try:
        async with asyncio.timeout(_LONGEST):
            return [
                replace(one, subject=f"{subject}: {one.subject}".removesuffix(": "))
                for one in await look()
            ]
    except ForwarderError as error:
        return [Finding("fault", subject, str(error), getattr(error, "hint", ""))]
    except TimeoutError:
        return [Finding("fault", subject, f"no answer within {_LONGEST:.0f} s", _REACHABLE)]
    finally:
        await plugin.aclose()
