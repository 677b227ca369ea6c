"""ECS events hold fields of ECS, of the right type, and our own below ``cloudflare`` only."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.timing import format_us, parse_us
from forwarder.formats.ecs import EcsConfig, EcsFormat
from forwarder.testing.samples import LOGIN, event_of, sample_events
from tests.formats.ecs_fields import CATEGORIES, FIELDS
from tests.formats.strategies import streams_and_rows

_STYLE = EcsFormat(EcsConfig(event_original=True))
_FITS = {
    "date": lambda value: parse_us(value) is not None,
    "ip": lambda value: str(ipaddress.ip_address(value)) is not None,
    "long": lambda value: isinstance(value, int),
}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        if path or key != "cloudflare":
            yield from _leaves(inner, f"{path}.{key}".lstrip("."))


def _fits(kind: str, value: Any) -> bool:
    if kind.endswith("[]"):
        return isinstance(value, list) and all(_fits(kind[:-2], item) for item in value)
    return bool(_FITS.get(kind, lambda text: isinstance(text, str))(value))


@given(streams_and_rows)
def test_each_field_is_one_of_ecs_and_of_its_type(given: tuple[str, dict[str, Any]]) -> None:
    event = orjson.loads(_STYLE.render(event_of(*given)))

    for path, value in _leaves(event):
        assert path in FIELDS
        assert _fits(FIELDS[path], value), path


@given(streams_and_rows)
def test_category_and_type_belong_together(given: tuple[str, dict[str, Any]]) -> None:
    event = orjson.loads(_STYLE.render(event_of(*given)))["event"]

    (category,) = event["category"]
    assert set(event["type"]) <= CATEGORIES[category]
    assert event["outcome"] in {"success", "failure", "unknown"}


def test_the_data_stream_is_the_data_set() -> None:
    for event in sample_events():
        written = orjson.loads(EcsFormat(EcsConfig(data_stream_namespace="prod")).render(event))

        assert written["data_stream"]["dataset"] == written["event"]["dataset"]
        assert written["data_stream"]["namespace"] == "prod"


@pytest.mark.parametrize("name", ["Prod", "a-b", "", "a b", "a,b"])
def test_a_namespace_that_elasticsearch_refuses_is_no_setting(name: str) -> None:
    with pytest.raises(ValueError, match="data_stream_namespace"):
        EcsConfig(data_stream_namespace=name)


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_times_are_written_as_everywhere(time_us: int) -> None:
    assert EcsFormat.time_text(time_us) == format_us(time_us)


def test_host_and_path_are_told_apart_and_countries_are_capital() -> None:
    row = {**LOGIN, "app_domain": "wiki.example.com/a/b", "country": "de"}

    event = orjson.loads(_STYLE.render(event_of("access_requests", row)))

    assert (event["url"]["domain"], event["url"]["path"]) == ("wiki.example.com", "/a/b")
    assert event["source"]["geo"] == {"country_iso_code": "DE"}
