"""``check --live`` tells what is right, what is missing, and what the API was seen to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from forwarder.core.contracts import Finding
from forwarder.core.source_contract import SourceContext
from forwarder.core.timing import SystemClock
from forwarder.simulator import (
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    IDENTITY_PROVIDERS,
    Fault,
    Simulator,
    SimulatorSettings,
    Token,
)
from forwarder.simulator.faults import SERVICE_TOKENS
from forwarder.simulator.settings import ALL_PERMISSIONS
from forwarder.sources.cloudflare_access import CloudflareAccess


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorSettings(history=3600, rate=0.2)) as running:
        yield running


async def findings(
    simulator: Simulator, token: str = DEFAULT_TOKEN, **streams: Any
) -> list[Finding]:
    config = CloudflareAccess.Config.model_validate(
        {
            "account_id": DEFAULT_ACCOUNT,
            "api_token": token,
            "api_url": simulator.url,
            "rate_limit": "off",
            **({"streams": streams} if streams else {}),
        }
    )
    clock = SystemClock()
    source = CloudflareAccess(config, SourceContext(clock, CloudflareAccess.share(clock, None)))
    try:
        return await source.diagnose()
    finally:
        await source.aclose()


def texts(found: list[Finding], subject: str, level: str = "ok") -> str:
    return "\n".join(f.text for f in found if (f.subject, f.level) == (subject, level))


async def test_a_good_token_has_no_fault_and_tells_what_was_observed(simulator: Simulator) -> None:
    found = await findings(simulator)

    assert [] == [f for f in found if f.level == "fault"]
    assert "active" in texts(found, "token")
    assert "rows in the last hour" in texts(found, "access_requests")
    assert "the smaller of" in texts(found, "access_requests")
    assert "provision over SCIM" in texts(found, "identity_providers")
    assert "`idp_id` is required" in texts(found, "scim_updates")


async def test_a_full_page_is_at_least_so_many_rows() -> None:
    async with Simulator(SimulatorSettings(history=3600, rate=1)) as simulator:
        found = texts(await findings(simulator), "access_requests")

    assert "readable; at least 1000 rows in the last hour" in found


async def test_refused_logins_may_be_absent_and_the_check_says_so(simulator: Simulator) -> None:
    found = await findings(simulator)

    assert "may be absent" in texts(found, "access_requests", "warning")


@pytest.mark.parametrize(("inclusive", "word"), [(True, "inclusive"), (False, "exclusive")])
async def test_it_sees_whether_since_is_inclusive(*, inclusive: bool, word: str) -> None:
    settings = SimulatorSettings(history=3600, rate=0.2, inclusive_since=inclusive)
    async with Simulator(settings) as running:
        found = await findings(running)

    assert f"`since` is {word}" in texts(found, "access_requests")


async def test_a_wrong_token_is_a_fault_with_a_hint(simulator: Simulator) -> None:
    found = await findings(simulator, "wrong-token")

    faults = [f for f in found if f.level == "fault"]
    assert {"token", "access_requests"} <= {f.subject for f in faults}
    assert all(f.hint for f in faults)


async def test_a_denied_provider_list_names_the_permission(simulator: Simulator) -> None:
    simulator.faults.add(Fault("error", status=403, stream=IDENTITY_PROVIDERS, times=None))

    found = await findings(simulator)

    (fault,) = [f for f in found if f.level == "fault"]
    assert "Identity Providers, and Groups Read" in fault.hint


async def test_the_audit_log_is_suggested_while_it_is_off(simulator: Simulator) -> None:
    (found,) = [f for f in await findings(simulator) if f.subject == "account_audit"]

    assert found.level == "ok"
    assert "Account Settings Read" in found.hint


async def test_the_audit_log_says_what_it_has_and_what_it_never_has() -> None:
    settings = SimulatorSettings(history=3600, rate=0.2, audit_rate=0.05)
    async with Simulator(settings) as running:
        found = await findings(running, account_audit={"products": ["dns"]})

    assert "rows in the last day, 0 of them concern Access" in texts(found, "account_audit")
    assert "refused" in texts(found, "account_audit", "warning")


async def test_an_unknown_category_is_a_fault(simulator: Simulator) -> None:
    found = await findings(simulator, account_audit={"products": ["dns", "acess"]})

    (fault,) = [f for f in found if f.level == "fault"]
    assert fault.subject == "account_audit"


async def test_requests_for_temporary_access_are_counted() -> None:
    async with Simulator(SimulatorSettings(history=3600, jit_rate=0.01)) as running:
        found = await findings(running, jit_requests={})

    assert "requests for temporary access in the last day" in texts(found, "jit_requests")


async def test_logins_without_identity_are_suggested_where_service_tokens_exist(
    simulator: Simulator,
) -> None:
    (found,) = [f for f in await findings(simulator) if f.subject == "non_identity_logins"]
    simulator.admit(Token(DEFAULT_TOKEN, permissions=ALL_PERMISSIONS - {SERVICE_TOKENS}))
    without = await findings(simulator)

    assert found.level == "ok"
    assert "service tokens exist" in found.text
    assert "Account Analytics Read" in found.hint
    # A permission that nothing else needs is no fault where it is missing.
    assert [] == [f for f in without if f.subject == "non_identity_logins" or f.level == "fault"]


async def test_logins_without_identity_are_counted_and_sampling_is_told() -> None:
    settings = SimulatorSettings(history=3600, anonymous_rate=0.1)
    async with Simulator(settings) as running:
        plain = await findings(running, non_identity_logins={})
        running.faults.add(Fault("sampled", count=2, times=None))
        sampled = await findings(running, non_identity_logins={})

    assert "groups in the last hour, 0 of them sampled" in texts(plain, "non_identity_logins")
    assert ", 0 of them sampled" not in texts(sampled, "non_identity_logins")
    (hint,) = [f.hint for f in sampled if f.subject == "non_identity_logins"]
    assert "missing" in hint


async def test_analytics_that_may_not_be_read_are_a_fault(simulator: Simulator) -> None:
    simulator.admit(Token(DEFAULT_TOKEN, permissions=frozenset()))
    found = await findings(simulator, non_identity_logins={})

    (fault,) = [f for f in found if f.level == "fault"]
    assert fault.subject == "non_identity_logins"
