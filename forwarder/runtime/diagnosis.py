"""``check --live``: every plugin that can diagnose looks at its other side and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from forwarder.config import AccountSettings, ForwarderSettings, SinkSettings
from forwarder.core.contracts import Finding, SinkContext
from forwarder.core.errors import ForwarderError
from forwarder.core.source_contract import SourceContext
from forwarder.core.timing import SystemClock
from forwarder.runtime.streams import USER_AGENT

_LONGEST = 60.0


async def diagnose(settings: ForwarderSettings) -> Sequence[Finding]:
    """Ask every account and every sink at the same time; return their findings in order.

    Every subject begins with whose it is, since two sinks of one type find the same things.
    """
    found = await asyncio.gather(
        *(_account(account) for account in settings.accounts),
        *(_sink(sink) for sink in settings.sinks),
    )
    return [finding for findings in found for finding in findings]


async def _account(account: AccountSettings) -> Sequence[Finding]:
    clock = SystemClock()
    shared = account.plugin.share(clock, None)
    context = SourceContext(clock=clock, shared=shared, user_agent=USER_AGENT)
    return await _ask(account.plugin(account.config, context), f"account {account.label}")


async def _sink(sink: SinkSettings) -> Sequence[Finding]:
    writer = sink.format_plugin(sink.format_config)
    context = SinkContext(
        sink.name, sink.format, writer.media_type, SystemClock(), user_agent=USER_AGENT
    )
    return await _ask(sink.plugin(sink.config, context), f"sink {sink.name}")


async def _ask(plugin: Any, subject: str) -> Sequence[Finding]:
    """Let a plugin diagnose; one that cannot is opened, if it can be."""
    try:
        async with asyncio.timeout(_LONGEST):
            if hasattr(plugin, "diagnose"):
                found: Sequence[Finding] = await plugin.diagnose()
                return [replace(one, subject=f"{subject}: {one.subject}") for one in found]
            await plugin.open()
    except ForwarderError as error:
        return [Finding("fault", subject, str(error), getattr(error, "hint", ""))]
    except TimeoutError:
        return [Finding("fault", subject, f"no answer within {_LONGEST:.0f} s", "is it reachable?")]
    finally:
        await plugin.aclose()
    return [Finding("ok", subject, "can be reached")]
