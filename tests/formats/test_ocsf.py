"""OCSF events are valid under the official schema, and say the same in numbers and in words."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from forwarder.core.identity import dumps
from forwarder.formats.ocsf import OcsfConfig, OcsfFormat
from forwarder.testing.samples import LOGIN, SCIM_UPDATES, event_of, sample_events
from tests.formats.strategies import streams_and_rows

_CHECKED = ("1.8.0", "1.7.0", "1.5.0", "1.3.0", "1.1.0")
_STYLES = {
    version: OcsfFormat(
        OcsfConfig.model_validate({"ocsf_version": version, "raw_data": version == "1.7.0"})
    )
    for version in (*_CHECKED, "1.9.0")
}
_CAPTIONS = {
    "activity_name": "activity_id",
    "severity": "severity_id",
    "status": "status_id",
    "action": "action_id",
    "disposition": "disposition_id",
    "auth_protocol": "auth_protocol_id",
}
"""An attribute with words, and the one with the number it belongs to."""
_OTHER = 99
_UNKNOWN = 0
"""In the schema of each class; pydantic-ocsf has left it out of some."""


@cache
def _classes(version: str) -> dict[str, Any]:
    classes: dict[str, Any] = get_ocsf_schema(version=version)["classes"]
    return classes


@cache
def _class_name(version: str, class_uid: int) -> str:
    return next(name for name, one in _classes(version).items() if one.get("uid") == class_uid)


@cache
def _validator(version: str, class_uid: int, profiles: tuple[str, ...]) -> Validator:
    name = _class_name(version, class_uid)
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=version))
    return Draft202012Validator(schema.get_class_schema(name, profiles=[*profiles]))


def ocsf_faults(event: dict[str, Any], version: str) -> list[str]:
    """Return what the official schema finds; nothing may be there that it does not know."""
    profiles = tuple(event["metadata"]["profiles"])
    validator = _validator(version, event["class_uid"], profiles)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(event)]


def _caption_faults(event: dict[str, Any], version: str) -> list[str]:
    """Return where words and numbers differ; the words of ``Other`` are the source's own."""
    known = _classes(version)[_class_name(version, event["class_uid"])]
    attributes = known["attributes"]
    found = [
        f"{words}: {event[words]!r} for {event[number]}"
        for words, number in _CAPTIONS.items()
        if number in event
        and event[number] != _OTHER
        and event[words] != attributes[number]["enum"][str(event[number])]["caption"]
    ]
    if event["type_uid"] != event["class_uid"] * 100 + event["activity_id"]:
        found.append("type_uid")
    if (event["class_name"], event["category_name"]) != (known["caption"], known["category_name"]):
        found.append("class_name, category_name")
    caption = attributes["activity_id"]["enum"][str(event["activity_id"])]["caption"]
    if event["type_name"] != f"{known['caption']}: {caption}":
        found.append("type_name")
    return found


@settings(max_examples=settings().max_examples // 2)
@given(streams_and_rows)
def test_any_row_gives_an_event_that_the_official_schema_knows(
    given: tuple[str, dict[str, Any]],
) -> None:
    for version in _CHECKED:
        event = orjson.loads(_STYLES[version].render(event_of(*given)))

        assert event["metadata"]["version"] == version
        assert ocsf_faults(event, version) == []
        assert _caption_faults(event, version) == []


@given(streams_and_rows)
def test_profiles_are_listed_exactly_when_they_are_used(given: tuple[str, dict[str, Any]]) -> None:
    event = orjson.loads(_STYLES["1.8.0"].render(event_of(*given)))

    # Where the class itself has no actor, the profile host brings one.
    hosted = "actor" in event and event["class_uid"] in {4001, 4002}
    used = {
        "cloud" if "cloud" in event else "",
        "security_control" if "action_id" in event else "",
        "host" if hosted else "",
    }
    assert set(event["metadata"]["profiles"]) == used - {""}


@pytest.mark.parametrize("version", _CHECKED)
def test_every_sample_row_is_valid_in_every_version(version: str) -> None:
    for event in sample_events():
        written = orjson.loads(_STYLES[version].render(event))

        assert (ocsf_faults(written, version), _caption_faults(written, version)) == ([], [])


@pytest.mark.parametrize("version", _CHECKED)
def test_the_validator_is_strict(version: str) -> None:
    event = orjson.loads(_STYLES[version].render(event_of("access_requests", LOGIN)))

    assert ocsf_faults({**event, "nonsense": 1}, version)
    assert ocsf_faults({**event, "user": {"nonsense": "x"}}, version)
    assert ocsf_faults({key: value for key, value in event.items() if key != "time"}, version)
    assert _caption_faults({**event, "status": "Failure"}, version)
    assert _caption_faults({**event, "type_uid": 1}, version)


_MODELS = {3001: "AccountChange", 3002: "Authentication", 3004: "EntityManagement"}
_MODELS |= {4001: "NetworkActivity", 4002: "HttpActivity"}
_MODELS |= {3006: "GroupManagement", 6002: "ApplicationLifecycle", 6003: "ApiActivity"}


@settings(max_examples=settings().max_examples // 2)
@given(streams_and_rows)
def test_a_second_oracle_agrees_on_1_7(given: tuple[str, dict[str, Any]]) -> None:
    event = orjson.loads(_STYLES["1.7.0"].render(event_of(*given)))
    models = import_module("ocsf.v1_7_0.events")
    assume(event["activity_id"] != _UNKNOWN)
    event.get("http_request", {}).pop("http_method", None)  # a text; that package wants a number

    model = getattr(models, _MODELS[event["class_uid"]]).model_validate(event)

    assert model.type_uid == event["type_uid"]


@pytest.mark.parametrize(
    ("name", "type_uid", "newer"),
    [
        ("scim_user_create", 300101, 300701),
        ("scim_user_disable", 300105, 300705),
        ("scim_user_enable", 300102, 300704),
        ("scim_user_failure", 300199, 300702),
        ("scim_user_delete", 300106, 300703),
        ("scim_group_create", 300606, 300606),
        ("scim_group_add_member", 300603, 300603),
        ("scim_group_remove_member", 300604, 300604),
        ("scim_group_rename", 300699, 300609),
        ("scim_group_delete", 300605, 300605),
        ("scim_unknown", 300499, 300499),
    ],
)
def test_each_scim_change_has_its_class_and_activity(name: str, type_uid: int, newer: int) -> None:
    event = event_of("scim_updates", SCIM_UPDATES[name])

    found = {version: orjson.loads(style.render(event)) for version, style in _STYLES.items()}

    assert found["1.7.0"]["type_uid"] == found["1.8.0"]["type_uid"] == type_uid
    assert found["1.9.0"]["type_uid"] == newer


def test_raw_data_is_the_row() -> None:
    style = OcsfFormat(OcsfConfig(raw_data=True))

    for event in sample_events():
        assert orjson.loads(style.render(event))["raw_data"] == dumps(event.row).decode()
