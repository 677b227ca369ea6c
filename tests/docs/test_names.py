"""What a page names exists: settings, metrics, commands and their options, log events, fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import click
import orjson
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from deploy.generate.artefacts import CHART, pages
from deploy.generate.catalogue import catalogue
from deploy.generate.markdown import blocks, codes
from forwarder.cli.program import COMMANDS, program
from forwarder.config import InstalledPlugins, json_schema
from forwarder.core.schema import Event
from tests.docs.shell import ROOT, commands

PAGES = pages(ROOT)
SETTINGS = json_schema(InstalledPlugins())
CHART_VALUES = orjson.loads((ROOT / CHART / "values.schema.json").read_bytes())
METRICS = {name for one in catalogue() for name in (one.name, *one.series)}
_WHOLE: dict[str, Any] = {
    "version": 1,
    "accounts": [{"account_id": "0" * 32, "api_token": "x"}],
    "sinks": {"console": {"type": "stdout"}},
}
_PREFIXES = {"forwarder_sink_", "forwarder_stream_"}
_EVENTS = {"forwarder_coverage", "forwarder_gap_opened", "forwarder_gap_or_silence"}
"""Ids of events in LEEF, and of a detection."""
_EXAMPLE_TYPES = {"lines"}
_OTHERS_WORDS = {
    "authorization",  # of Prometheus' monitors
    "event.category",  # of ECS
    "failure_store",  # of Elasticsearch's answers
    "init",  # of Compose
    "journal.db",
    "limits.conf",  # of Splunk
    "log.record.uid",  # of OpenTelemetry
    "success",  # an outcome
}


def test_every_yaml_example_fits_its_schema() -> None:
    """Settings fit the settings' schema, values of the chart the chart's."""
    faults = {
        f"{path}:{block.line}": found
        for path, text in PAGES.items()
        for block in blocks(text)
        if block.language == "yaml" and (found := _misfits(yaml.safe_load(block.text)))
    }

    assert faults == {}


def _misfits(given: dict[str, Any]) -> list[str]:
    if given.keys() <= SETTINGS["properties"].keys():
        if _types(given) & _EXAMPLE_TYPES:
            return []
        faults = Draft202012Validator(SETTINGS).iter_errors({**_WHOLE, **given})
    else:
        faults = Draft7Validator(CHART_VALUES).iter_errors(given)
    return [fault.message for fault in faults]


def _types(given: dict[str, Any]) -> set[str]:
    return {sink.get("type", "") for sink in given.get("sinks", {}).values()}


def test_metrics_that_are_named_exist() -> None:
    named = {
        (page, name)
        for page, text in PAGES.items()
        for name in re.findall(r"\bforwarder_[a-z][a-z_]+", text)
    }

    assert {one for one in named if one[1] not in METRICS | _PREFIXES | _EVENTS} == set()


def test_commands_and_options_that_are_named_exist() -> None:
    unknown = {
        page: found
        for page, text in PAGES.items()
        if (found := [one for line in _calls(text) for one in _unknown(line)])
    }

    assert unknown == {}


def _calls(text: str) -> Iterator[str]:
    """Yield whatever on a page may be a call of a command."""
    for block in blocks(text):
        if block.language == "console":
            yield from (command.text for command in commands(block.text, 0))
        elif block.language == "sh":
            yield from block.text.splitlines()
    yield from codes(text)


def _unknown(text: str) -> Iterator[str]:
    """Yield commands and options of forwarder in ``text`` that do not exist."""
    for call in re.findall(
        r"(?:^(?:[A-Z_]+=\S+ )*|-- )forwarder ((?:[a-z-]+)(?: .*)?)$",
        text.split("#", maxsplit=1)[0].strip(),
    ):
        words = re.split(r"\s+", call.split(" > ")[0].split(" 2> ")[0].rstrip(" &"))
        command: click.Command | None = program
        with click.Context(program) as context:
            while isinstance(command, click.Group) and words:
                command = command.get_command(context, words.pop(0))
            if command is None:
                yield text
                continue
            known = {option for parameter in command.params for option in parameter.opts}
            known |= {"--help", "-h", "--version"}
            yield from (word for word in words if word.startswith("-") and word not in known)


def test_settings_that_are_named_exist() -> None:
    """Whatever looks like ``key: value`` or ``group.key`` between back quotes."""
    keys, groups = _keys(SETTINGS)
    keys |= _keys(CHART_VALUES)[0]
    named = [code for text in PAGES.values() for code in codes(text)]
    pairs = {found[1] for one in named if (found := re.match(r"([a-z][a-z_.]*): \S", one))}
    paths = {one for one in named if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", one)}
    dotted = {one for one in paths if one.split(".")[0] in groups}

    unknown = {one for one in pairs | dotted if not set(one.split(".")) <= keys}
    assert unknown - _OTHERS_WORDS == set()


def _keys(schema: Any) -> tuple[set[str], set[str]]:
    """Return every key of the settings, and those that have keys below them."""
    keys: set[str] = set()
    groups: set[str] = set()
    for node in _nodes(schema):
        for key, below in node.get("properties", {}).items():
            keys.add(key)
            if "$ref" in below or any("$ref" in one for one in below.get("anyOf", [])):
                groups.add(key)
    return keys, groups


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for below in node.values():
            yield from _nodes(below)
    elif isinstance(node, list):
        for below in node:
            yield from _nodes(below)


def test_the_readme_names_every_command() -> None:
    named = {word for code in codes(PAGES["README.md"]) for word in re.findall(r"[a-z-]+", code)}

    assert set(COMMANDS) - named == set()


def test_fields_in_the_schema_page_exist() -> None:
    text = PAGES["docs/schema.md"]
    rows = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", text, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    fields = {name for kind in get_args(Event) for name in dir(kind)}
    kinds = {
        "start",
        "stop",
        "config_reloaded",
        "gap_opened",
        "gap_closed",
        "late_rows",
        "coverage",
    }

    assert named - fields - kinds == set()
