"""`config schema` describes exactly what the loader takes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from forwarder.config.showing import json_schema
from tests.config.conftest import GOOD, FakePlugins


@pytest.fixture
def validator(plugins: FakePlugins) -> Draft202012Validator:
    schema = json_schema(plugins)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def good() -> Any:
    return yaml.safe_load(GOOD)


def test_a_good_file_is_valid(validator: Draft202012Validator) -> None:
    validator.validate(good())


def test_a_variable_may_stand_for_a_number(validator: Draft202012Validator) -> None:
    data = good()
    data["sinks"]["console"]["max_in_flight"] = "${MANY:-4}"

    validator.validate(data)
    data["sinks"]["console"]["max_in_flight"] = "many"
    assert not validator.is_valid(data)


def test_a_secret_may_be_a_file(validator: Draft202012Validator) -> None:
    data = good()
    data["accounts"][0]["api_token_file"] = data["accounts"][0].pop("api_token")

    validator.validate(data)
    del data["accounts"][0]["api_token_file"]
    assert not validator.is_valid(data)


def test_of_secrets_by_name_each_may_be_a_file_and_the_whole_may_not(
    validator: Draft202012Validator,
) -> None:
    data = good()
    sink = {"type": "splunk_hec", "url": "https://h", "token": "t"}
    data["sinks"]["s"] = sink | {"marks": {"X-Key_file": "/run/secrets/key", "X-Other": "o"}}

    validator.validate(data)
    data["sinks"]["s"] = sink | {"marks_file": "/run/secrets/key"}
    assert not validator.is_valid(data)


@pytest.mark.parametrize("place", ["", "accounts", "sinks", "journal"])
def test_an_unknown_key_is_invalid_everywhere(validator: Draft202012Validator, place: str) -> None:
    data = good()
    data["journal"] = {}
    targets = {"": data, "accounts": data["accounts"][0], "sinks": data["sinks"]["console"]}
    targets.get(place, data["journal"])["unknown"] = 1

    assert not validator.is_valid(data)


def test_the_keys_of_the_type_the_format_and_every_sink_are_known(
    validator: Draft202012Validator,
) -> None:
    data = good()
    data["sinks"]["s"] = {
        "type": "splunk_hec",
        "url": "https://s",
        "token_file": "/t",
        "envelope": False,
        "format": "raw",
        "retry": {"initial": "1s"},
        "tls": {"verify": False},
    }

    validator.validate(data)
    del data["sinks"]["s"]["url"]
    assert not validator.is_valid(data)
