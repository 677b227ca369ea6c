"""The plugin of an account gives the streams that its settings switch on."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from forwarder.core.source_contract import Expiring, SourceContext
from forwarder.core.timing import SystemClock
from forwarder.simulator import DEFAULT_ACCOUNT, DEFAULT_TOKEN, Simulator, SimulatorSettings, Token
from forwarder.sources.cloudflare_access import CloudflareAccess
from forwarder.sources.cloudflare_access.account import AccountConfig, StreamsConfig
from forwarder.sources.cloudflare_access.logs import AccessRequests
from forwarder.sources.cloudflare_access.scim.updates import ScimUpdates


def plugin(url: str = "http://127.0.0.1:1", **given: Any) -> CloudflareAccess:
    clock = SystemClock()
    config = AccountConfig.model_validate(
        {"account_id": DEFAULT_ACCOUNT, "api_token": DEFAULT_TOKEN, "api_url": url, **given}
    )
    return CloudflareAccess(config, SourceContext(clock, CloudflareAccess.share(clock, None)))


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorSettings(rate=0.0)) as simulator:
        yield simulator


def test_both_streams_are_on_when_none_is_named() -> None:
    plans = plugin().streams()

    assert isinstance(plans["access_requests"].source, AccessRequests)
    assert isinstance(plans["scim_updates"].source, ScimUpdates)


@pytest.mark.parametrize("stream", ["access_requests", "scim_updates"])
def test_a_stream_that_is_left_out_is_off(stream: str) -> None:
    plans = plugin(streams={stream: {"overlap": "90s"}}).streams()

    assert {stream: 90.0} == {name: plan.settings.overlap for name, plan in plans.items()}


def test_every_stream_has_a_normaliser() -> None:
    every: dict[str, Any] = {name: {} for name in StreamsConfig.model_fields}

    assert set(CloudflareAccess.normalisers) == set(plugin(streams=every).streams())


def test_accounts_with_one_token_share_its_budget() -> None:
    budgets = CloudflareAccess.share(SystemClock(), None)
    one, same, other = (
        AccountConfig.model_validate({"account_id": id_ * 32, "api_token": token})
        for id_, token in (("a", "first"), ("b", "first"), ("a", "second"))
    )

    assert budgets.of(one) is budgets.of(same)
    assert budgets.of(one) is not budgets.of(other)


async def test_it_finds_out_what_the_token_may_do(simulator: Simulator) -> None:
    found = await _diagnosed(plugin(simulator.url))

    assert "fault" not in {finding.level for finding in found}


async def test_closing_twice_is_closing_once(simulator: Simulator) -> None:
    account = plugin(simulator.url)
    await account.streams()["access_requests"].source.server_time_us()

    await account.aclose()
    await account.aclose()


async def _diagnosed(account: CloudflareAccess) -> list[Any]:
    try:
        return list(await account.diagnose())
    finally:
        await account.aclose()


@pytest.mark.parametrize(
    ("expires_on", "ends"), [("2027-01-15T08:00:00Z", 1_800_000_000.0), (None, None)]
)
async def test_the_end_of_a_token_is_what_cloudflare_tells(
    expires_on: str | None, ends: float | None
) -> None:
    token = Token(DEFAULT_TOKEN, expires_on=expires_on)
    async with Simulator(SimulatorSettings(rate=0.0, tokens=(token,))) as simulator:
        account = plugin(simulator.url)
        found = await account.credential_expires_s()
        await account.aclose()

    assert isinstance(account, Expiring)
    assert found == ends
