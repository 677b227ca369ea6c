"""The Splunk app finds in the events what it looks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import orjson
import pytest

from forwarder.formats.cim import CimFormat
from forwarder.formats.templates import FormatConfig
from forwarder.testing.samples import sample_events

_APP = Path(__file__).parents[2] / "deploy" / "splunk" / "default"
_TERM = re.compile(r"(\w+)=(\S+?)(?=[\s)]|$)")


class _Conf(RawConfigParser):
    """A file of Splunk's: keys are case-sensitive, the first ``=`` ends them."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def _read(name: str) -> RawConfigParser:
    parser = _Conf(delimiters=("=",), interpolation=None, strict=True)
    parser.read(_APP / name, encoding="utf-8")
    return parser


def _events() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the sourcetype and the fields of each sample event."""
    style = CimFormat(FormatConfig())
    for event in sample_events():
        yield f"cloudflare:{event.origin.stream}", orjson.loads(style.render(event))


def _found_by(search: str) -> list[dict[str, Any]]:
    """Return the events that all terms of a simple search fit; alternatives fit with one."""
    alternatives = [part.split(" OR ") for part in re.findall(r"\((.*?)\)", search)]
    fixed = _TERM.findall(re.sub(r"\(.*?\)", "", search))
    return [
        fields
        for sourcetype, fields in _events()
        if all({"sourcetype": sourcetype, **fields}.get(key) == value for key, value in fixed)
        and all(
            any(fields.get(key) == value for term in one for key, value in _TERM.findall(term))
            for one in alternatives
        )
    ]


@pytest.mark.parametrize("name", _read("eventtypes.conf").sections())
def test_each_event_type_finds_events(name: str) -> None:
    assert _found_by(_read("eventtypes.conf")[name]["search"])


def test_logins_alone_are_authentication() -> None:
    tagged = [
        name
        for name in _read("tags.conf").sections()
        if "authentication" in _read("tags.conf")[name]
    ]

    assert tagged == ["eventtype=cloudflare_access_login"]
    found = _found_by(_read("eventtypes.conf")["cloudflare_access_login"]["search"])
    assert {event["signature"] for event in found} == {"login"}
    assert {event["action"] for event in found} <= {"success", "failure", "error"}


def test_tags_and_searches_name_event_types_that_exist() -> None:
    known = set(_read("eventtypes.conf").sections())

    tagged = {name.removeprefix("eventtype=") for name in _read("tags.conf").sections()}
    searches = " ".join(
        one["search"] for _, one in _read("savedsearches.conf").items() if "search" in one
    )
    assert tagged <= known
    assert set(re.findall(r"eventtype=(\w+)", searches)) <= known


def test_searches_use_fields_that_events_have() -> None:
    fields = {key for _, event in _events() for key in event}

    for name in _read("savedsearches.conf").sections():
        search = _read("savedsearches.conf")[name]["search"]
        used = {key for key, _ in re.findall(r"(\w+)=(\"?[\w:]+)", search)} - {
            "sourcetype",
            "eventtype",
        }
        used |= set(re.findall(r"values\((\w+)\)", search)) | set(
            re.findall(r"dc\((\w+)\)", search)
        )
        assert used <= fields, name


def test_the_time_of_a_bare_line_is_where_props_say() -> None:
    style = CimFormat(FormatConfig())
    for stanza in _read("props.conf").sections():
        prefix = _read("props.conf")[stanza]["TIME_PREFIX"]
        lines = [style.render(event).decode() for event in sample_events()]

        assert all(
            re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.partition(prefix)[2])
            for line in lines
        )
