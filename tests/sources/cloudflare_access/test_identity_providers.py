"""Which identity providers are polled, whatever the list of them says or does not say."""

import json
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.telemetry import TelemetryEvent
from forwarder.core.timing import SystemClock
from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    IDENTITY_PROVIDERS,
    SCIM_UPDATES,
    Fault,
    IdentityProvider,
    Simulator,
    SimulatorSettings,
    Token,
)
from forwarder.sources.cloudflare_access.account import AccountConfig, ScimUpdatesConfig
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.events import ProvidersChanged, ProvidersNotListed
from forwarder.sources.cloudflare_access.rate_limit import RateLimiter
from forwarder.sources.cloudflare_access.scim.providers import (
    FAREWELL_US,
    Provider,
    ProviderList,
    current_list,
    list_providers,
)

NOW = 1_790_000_000_000_000
MINUTE = 60_000_000
AUTO = ScimUpdatesConfig()


def polled(roster: ProviderList, now_us: int = NOW) -> list[str]:
    return [member.id for member in roster.polled(now_us)]


def listing(*ids: str) -> list[Provider]:
    return [Provider(id_, id_.upper(), "okta") for id_ in ids]


def test_only_those_that_provision_are_polled() -> None:
    roster = ProviderList().listed([*listing("a", "b"), Provider("c", enabled=False)], NOW)

    assert polled(roster) == ["a", "b"]


def test_a_new_one_says_since_when_it_is_known() -> None:
    roster = ProviderList().listed(listing("b"), NOW).listed(listing("a", "b"), NOW + MINUTE)

    assert [(one.id, one.since_us) for one in roster.members] == [("a", NOW + MINUTE), ("b", NOW)]


def test_a_vanished_one_is_polled_for_another_day() -> None:
    roster = ProviderList().listed(listing("a", "b"), NOW)
    roster = roster.listed(listing("b"), NOW + MINUTE)
    roster = roster.listed(listing("b"), NOW + 2 * MINUTE)

    assert polled(roster, NOW + FAREWELL_US) == ["a", "b"]
    assert polled(roster, NOW + FAREWELL_US + MINUTE) == ["b"]
    assert polled(roster.listed(listing("b"), NOW + FAREWELL_US + MINUTE)) == ["b"]


def test_one_whose_provisioning_was_switched_off_has_vanished() -> None:
    roster = ProviderList().listed(listing("a"), NOW).listed([Provider("a", enabled=False)], NOW)

    assert [one.vanished_us for one in roster.members] == [NOW]


def test_one_that_comes_back_within_the_day_was_never_gone() -> None:
    roster = ProviderList().listed(listing("a"), NOW).listed([], NOW + MINUTE)
    roster = roster.listed(listing("a"), NOW + 2 * MINUTE)

    (member,) = roster.members
    assert (member.since_us, member.vanished_us) == (NOW, None)


def test_one_that_comes_back_later_is_new() -> None:
    later = NOW + FAREWELL_US + 2 * MINUTE
    roster = ProviderList().listed(listing("a"), NOW).listed([], NOW).listed(listing("a"), later)

    assert [one.since_us for one in roster.members] == [later]


def test_ids_of_the_settings_are_all_there_is() -> None:
    roster = ProviderList().listed(listing("a", "b"), NOW).fixed(["b", "x"], NOW + MINUTE)

    assert [(one.id, one.since_us) for one in roster.members] == [("b", NOW), ("x", NOW + MINUTE)]


def test_a_check_is_due_after_the_interval_and_when_the_clock_was_set_back() -> None:
    roster = ProviderList().listed([], NOW)

    assert ProviderList().is_due(NOW, 300)
    assert not roster.is_due(NOW + 4 * MINUTE, 300)
    assert roster.is_due(NOW + 5 * MINUTE, 300)
    assert roster.is_due(NOW - 1, 300)


@given(st.lists(st.tuples(st.sets(st.sampled_from("abcd")), st.integers(0, 2 * FAREWELL_US))))
def test_whoever_was_there_within_a_day_is_polled(history: list[tuple[set[str], int]]) -> None:
    roster, now_us, gone_since = ProviderList(), NOW, dict[str, int]()
    before: set[str] = set()
    for ids, passed in history:
        now_us += passed
        gone_since |= dict.fromkeys(before - ids, now_us)
        roster = roster.listed(listing(*ids), now_us)
        before = ids

        leaving = {one for one, since_us in gone_since.items() if now_us < since_us + FAREWELL_US}
        assert set(polled(roster, now_us)) == ids | leaving
        assert ProviderList.from_json(json.loads(json.dumps(roster.to_json()))) == roster


def test_a_roster_of_a_later_version_can_be_read() -> None:
    stored = ProviderList().listed(listing("a"), NOW).to_json()
    stored["members"][0]["novelty"] = 1

    assert polled(ProviderList.from_json(stored)) == ["a"]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorSettings(rate=0, scim_rate=0)) as started:
        yield started


@pytest.fixture
async def api(simulator: Simulator) -> AsyncIterator[Api]:
    config = AccountConfig.model_validate(
        {"account_id": DEFAULT_ACCOUNT, "api_token": DEFAULT_TOKEN, "api_url": simulator.url}
    )
    clock = SystemClock()
    api = Api(config, RateLimiter(clock), clock, environ={})
    yield api
    await api.aclose()


def provisioning(simulator: Simulator) -> list[str]:
    return sorted(simulator.directory(DEFAULT_ACCOUNT).provisioning())


def deny(simulator: Simulator, endpoints: Iterable[str] = (ACCESS_REQUESTS, SCIM_UPDATES)) -> None:
    simulator.admit(Token(DEFAULT_TOKEN, permissions=frozenset(endpoints)))


async def test_cloudflare_is_asked_when_it_is_due_and_not_before(
    simulator: Simulator, api: Api
) -> None:
    happenings: list[TelemetryEvent] = []

    async def ask(roster: ProviderList, now_us: int) -> ProviderList:
        return await current_list(api, AUTO, roster, now_us, account="acme", emit=happenings.append)

    roster = await ask(ProviderList(), NOW)
    again = await ask(roster, NOW + 4 * MINUTE)
    asked = simulator.requests.counts[IDENTITY_PROVIDERS]
    first, second = provisioning(simulator)
    simulator.directory(DEFAULT_ACCOUNT).switch(first, scim=False)
    later = await ask(again, NOW + 6 * MINUTE)

    assert polled(roster) == [first, second]
    assert again is roster
    assert asked == 2, "one page with them, one empty page"
    assert polled(later) == [first, second]
    assert happenings == [
        ProvidersChanged("acme", (first, second), ()),
        ProvidersChanged("acme", (), (first,)),
    ]


async def test_ids_of_the_settings_ask_nobody(simulator: Simulator, api: Api) -> None:
    config = ScimUpdatesConfig(identity_providers=("b", "a"))

    roster = await current_list(api, config, ProviderList(), NOW, account="acme")

    assert polled(roster) == ["a", "b"]
    assert simulator.requests.counts[IDENTITY_PROVIDERS] == 0


async def test_a_denied_list_falls_back_to_the_known_ones_and_says_what_to_do(
    simulator: Simulator, api: Api
) -> None:
    known = await current_list(api, AUTO, ProviderList(), NOW, account="acme")
    deny(simulator)
    happenings: list[TelemetryEvent] = []

    later = NOW + 6 * MINUTE
    roster = await current_list(api, AUTO, known, later, account="acme", emit=happenings.append)

    assert roster.members == known.members
    assert not roster.is_due(later + MINUTE, AUTO.refresh)
    (told,) = happenings
    assert isinstance(told, ProvidersNotListed)
    assert told.known == 2
    assert "Access: Organizations, Identity Providers, and Groups Read" in told.hint
    assert "`identity_providers`" in told.hint


async def test_a_list_that_is_out_of_order_is_asked_for_again_at_once(
    simulator: Simulator, api: Api
) -> None:
    known = await current_list(api, AUTO, ProviderList(), NOW, account="acme")
    simulator.faults.add(Fault("html", stream=IDENTITY_PROVIDERS))

    later = NOW + 6 * MINUTE
    roster = await current_list(api, AUTO, known, later, account="acme")

    assert roster == known
    assert roster.is_due(later, AUTO.refresh)


async def test_with_none_known_a_denied_list_needs_a_person(simulator: Simulator, api: Api) -> None:
    deny(simulator)

    with pytest.raises(NeedsOperatorError) as caught:
        await current_list(api, AUTO, ProviderList(), NOW, account="acme")

    assert "`identity_providers`" in caught.value.hint


async def test_no_provider_at_all_is_no_fault(simulator: Simulator, api: Api) -> None:
    directory = simulator.directory(DEFAULT_ACCOUNT)
    for provider in directory.listed():
        directory.remove(provider.id)

    assert polled(await current_list(api, AUTO, ProviderList(), NOW, account="acme")) == []


async def test_all_pages_are_read(simulator: Simulator, api: Api) -> None:
    directory = simulator.directory(DEFAULT_ACCOUNT)
    for number in range(230):
        directory.add(IdentityProvider(f"{number:04}", f"Idp {number}", "okta", scim=True))

    assert len(await list_providers(api)) == len(directory.listed())


async def test_an_ignored_page_number_does_not_go_round_for_ever(
    simulator: Simulator, api: Api
) -> None:
    same = json.dumps({"success": True, "result": [{"id": "a"}, {"id": "b"}]})
    simulator.faults.add(Fault("body", status=200, body=same, times=None))

    assert [one.id for one in await list_providers(api)] == ["a", "b"]
    assert simulator.requests.counts[IDENTITY_PROVIDERS] == 2


async def test_nothing_but_id_name_type_and_enabled_is_kept(simulator: Simulator, api: Api) -> None:
    body = {
        "success": True,
        "result": [
            {"id": "a", "name": None, "scim_config": {"enabled": True, "secret": "s3cret"}},
            {"id": "b", "name": "B", "type": "okta", "scim_config": {"enabled": "true"}},
            {"name": "no id"},
            {"id": 7, "scim_config": {"enabled": True}},
            {"id": "c", "scim_config": None},
            "none",
        ],
    }
    simulator.faults.add(Fault("body", status=200, body=json.dumps(body)))

    found = await list_providers(api)

    assert found[:3] == [
        Provider("a"),
        Provider("b", "B", "okta", enabled=False),
        Provider("c", enabled=False),
    ]
    assert "s3cret" not in repr(found) + json.dumps(ProviderList().listed(found, NOW).to_json())


async def test_a_list_cut_short_is_no_list(simulator: Simulator, api: Api) -> None:
    simulator.faults.add(Fault("truncated", after=1))

    with pytest.raises(TransientError):
        await list_providers(api)
