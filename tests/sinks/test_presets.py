"""Each preset against a receiver that judges what the product judges."""

from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from forwarder.core.contracts import BatchLimits, Sink
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.http import HttpSink, HttpSinkConfig
from forwarder.sinks.splunk_hec import SplunkHecConfig, SplunkHecSink
from forwarder.testing.destinations import failure_of
from forwarder.testing.fake_server import saying
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from forwarder.testing.fault_run import deliver_all
from forwarder.transport.presets import Meaning, presets
from tests.sinks.fakes.vendors import (
    VENDORS,
    Axiom,
    ClickHouse,
    Datadog,
    LogScale,
    SecOps,
    Sumo,
    Vendor,
)

SINKS: dict[str, tuple[Any, Any]] = {
    "http": (HttpSink, HttpSinkConfig),
    "splunk_hec": (SplunkHecSink, SplunkHecConfig),
}
EVERY = {name: preset for kind in SINKS for name, preset in presets(kind).items()}


def make_sink(vendor: Vendor, **more: Any) -> Sink:
    config = vendor.config | more
    plugin, settings = SINKS[EVERY[config["preset"]].sink]
    sink: Sink = plugin(settings.model_validate(config), sink_context())
    return sink


@pytest.fixture(params=VENDORS, ids=[vendor.__name__ for vendor in VENDORS])
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[Vendor]:
    async with request.param() as vendor:
        yield vendor


async def test_a_product_takes_what_its_preset_sends(vendor: Vendor) -> None:
    outcome = await deliver_all(make_sink(vendor), 300)

    assert not outcome.dead
    assert vendor.arrived() == {make_event(n).id: 1 for n in range(300)}


async def test_the_largest_batch_stays_below_the_products_limit(vendor: Vendor) -> None:
    sink = make_sink(vendor)
    limits = sink.limits
    filler = b"x" * (limits.max_bytes // limits.max_events - 60)
    events = [
        make_event(n, body=b'{"id":"%s","x":"%s"}' % (make_event(n).id.encode(), filler))
        for n in range(limits.max_events)
    ]
    await sink.write(batch_of(events))
    await sink.aclose()

    assert len(vendor.arrived()) == limits.max_events


async def test_a_wrong_key_needs_an_operator_and_is_not_shown(vendor: Vendor) -> None:
    await vendor.lock_out()
    sink = make_sink(vendor)
    error = await failure_of(sink, make_batch(2))
    await sink.aclose()

    assert isinstance(error, NeedsOperatorError)
    assert vendor.secrets[0] not in f"{error} {error.hint} {sink!r}"


async def test_a_busy_product_is_an_outage_that_says_how_long(vendor: Vendor) -> None:
    vendor.script.append(saying(429, '{"text":"busy","code":26}', **{"Retry-After": "9"}))
    sink = make_sink(vendor)
    error = await failure_of(sink, make_batch(2))
    await sink.aclose()

    assert type(error) is TransientError
    assert error.retry_after == 9.0


@pytest.mark.parametrize("kind", [SecOps, Datadog, ClickHouse, Axiom])
async def test_an_event_that_a_product_refuses_is_found(kind: type[Vendor]) -> None:
    async with kind() as vendor:
        vendor.refused = b'"n":17}'
        outcome = await deliver_all(make_sink(vendor), 100)

        assert outcome.dead == {make_event(17).id}
        assert vendor.arrived().keys() == {make_event(n).id for n in range(100) if n != 17}


async def test_a_table_that_clickhouse_does_not_have_needs_an_operator() -> None:
    async with ClickHouse() as clickhouse:
        clickhouse.table = "other"
        sink = make_sink(clickhouse)
        error = await failure_of(sink, make_batch(2))
        await sink.aclose()

        assert isinstance(error, NeedsOperatorError)
        assert "table" in error.hint


async def test_an_address_that_is_the_secret_comes_out_of_a_file(tmp_path: Any) -> None:
    async with Sumo() as sumo:
        path = tmp_path / "url"
        path.write_text("http://127.0.0.1:1/receiver/v1/http/old")
        sink = make_sink(sumo, url=None, url_file=str(path))
        with pytest.raises(TransientError):
            await sink.write(make_batch(1))
        path.write_text(sumo.config["url"])
        await sink.write(make_batch(2))
        await sink.aclose()

        assert len(sumo.arrived()) == 2


async def test_what_has_no_health_is_opened_without_a_question() -> None:
    async with LogScale() as logscale:
        sink = make_sink(logscale)
        await sink.open()
        (finding,) = await sink.diagnose()  # type: ignore[attr-defined] # a sink may have it
        await sink.aclose()

        assert finding.level == "warning"
        assert not logscale.taken


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://http-intake.logs.datadoghq.eu/v1/input"},
        {"headers": {}},
        {"preset": "nobody"},
        {"preset": "cribl"},
    ],
)
def test_what_a_product_would_not_take_is_refused_before(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HttpSinkConfig.model_validate(Datadog().config | change)


def test_all_that_does_not_fit_a_preset_is_said_at_once() -> None:
    wrong = {"url": "https://http-intake.logs.datadoghq.eu/v1/input", "headers": {}}
    with pytest.raises(ValidationError, match=r"looks like .*; .* needs the headers DD-API-KEY"):
        HttpSinkConfig.model_validate(Datadog().config | wrong)


def test_a_preset_of_another_sink_type_names_that_type() -> None:
    with pytest.raises(ValidationError, match="'logscale' is for the sink type splunk_hec"):
        HttpSinkConfig.model_validate(Datadog().config | {"preset": "logscale"})


def test_what_is_set_goes_before_the_preset() -> None:
    config = HttpSinkConfig.model_validate(Datadog().config | {"success_codes": [200]})

    assert (config.body, config.success_codes) == ("array", (200,))
    assert HttpSink.format_for({"preset": "datadog"}) == "ecs"
    assert SplunkHecSink.format_for({"preset": "cribl"}) == "raw"
    assert HttpSink.format_for({}) == "raw"


def test_the_settings_name_every_preset_and_every_preset_fits_its_sink() -> None:
    for kind, (_, config) in SINKS.items():
        named = get_args(get_args(config.model_fields["preset"].annotation)[0])
        assert set(named) == set(presets(kind))
        for preset in presets(kind).values():
            assert preset.settings.keys() <= config.model_fields.keys()
            assert preset.limits.keys() <= set(BatchLimits.__dataclass_fields__)
    assert {vendor.settings["preset"] for vendor in VENDORS} == EVERY.keys()


def test_an_answer_that_holds_a_sink_says_what_to_do() -> None:
    with pytest.raises(ValidationError, match="needs a hint"):
        Meaning(status=(403,), text="quota", means="hold")


def test_the_address_that_a_preset_shows_fits_it() -> None:
    problems = [one.problem(one.url, dict.fromkeys(one.headers)) for one in EVERY.values()]

    assert set(problems) == {""}
