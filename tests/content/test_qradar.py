"""The log source extension for QRadar reads the lines that format leef writes.

No QRadar is here: its patterns run in Python, and use nothing that Java reads differently.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from xml.etree import ElementTree as ET

from forwarder.formats.leef import LeefFormat
from forwarder.formats.pipeline import Pipeline
from forwarder.formats.templates import FormatConfig
from forwarder.testing.samples import ACCOUNTS, NORMALISERS, ROWS, page_of

_FOLDER = Path(__file__).parents[2] / "deploy" / "qradar"
_ROOT = ET.parse(_FOLDER / "log-source-extension.xml").getroot()
_SPACE = "{event_parsing/device_extension}"
_PATTERNS = {one.attrib["id"]: re.compile(one.text or "") for one in _ROOT.iter("pattern")}
_MATCHERS = {one.attrib["field"]: one.attrib for one in _ROOT.iter("matcher")}
_EVENTS = {one.attrib["event-name"]: one.attrib for one in _ROOT.iter("event-match-single")}
_MAP = {
    row["event_id"]: row
    for row in csv.DictReader((_FOLDER / "event-map.csv").read_text("utf-8").splitlines())
}
_LEEF = Pipeline(LeefFormat(FormatConfig()), NORMALISERS, ACCOUNTS)
LINES = {
    name: event.body.decode()
    for stream, rows in ROWS.items()
    for name, row in rows.items()
    for event in _LEEF(page_of(stream, [row])).events
}
# Values of LEEF are between tabs, and its keys are ours, so splitting a line is reading it.
_KEYS = {
    "EventCategory": "cat",
    "UserName": "usrName",
    "DestinationPort": "dstPort",
    "GroupName": "groupName",
}
_ODD = {"access_event", "access_login", "access_reauthenticate_allowed", "scim_unknown_merge"}
_ODD |= {"forwarder_event", "", "audit_unknown_unknown", "audit_temporary_access_unknown"}
_ODD |= {"audit_temporary_access_x_y_z_n_b_a_b_cef_0_fake_end_"}
"""Of rows that say too little, or something new."""


def _read(field: str, line: str) -> str:
    matcher = _MATCHERS[field]
    found = _PATTERNS[matcher["pattern-id"]].search(line)
    return found[int(matcher["capture-group"])] if found else ""


def _pairs(line: str) -> dict[str, str]:
    return dict(pair.partition("=")[::2] for pair in line.split("|", maxsplit=6)[-1].split("\t"))


def test_the_extension_has_the_elements_that_qradar_documents() -> None:
    assert f"{_SPACE}device-extension" == _ROOT.tag
    assert {"match-group", "pattern"} == {child.tag for child in _ROOT}
    assert set(_PATTERNS) == {matcher["pattern-id"] for matcher in _MATCHERS.values()}


def test_each_field_is_what_the_line_has() -> None:
    wrong = []
    for name, line in LINES.items():
        pairs = _pairs(line)
        found = {field: _read(field, line) for field in _KEYS}
        if found != {field: pairs.get(key, "") for field, key in _KEYS.items()}:
            wrong.append(name)
        if pairs.get("src", "") != _read("SourceIp", line) + _read("SourceIpv6", line):
            wrong.append(name)

    assert [] == wrong
    read = {field for field in _MATCHERS for line in LINES.values() if _read(field, line)}
    assert set(_MATCHERS) == read


def test_each_event_is_mapped_with_the_category_of_its_line() -> None:
    written = {_read("EventName", line): _pairs(line) for line in LINES.values()}
    mapped = {name: one["device-event-category"] for name, one in _EVENTS.items()}

    # Samples have not every change of every kind of object.
    known = {
        name: "Audit"
        for name in mapped
        if re.fullmatch("audit_[a-z_]+_(create|update|delete)", name)
    }
    samples = {name: pairs["cat"] for name, pairs in written.items() if name not in _ODD}
    assert mapped == known | samples | {"audit_logout_success": "Authentication"}
    assert mapped == {name: row["event_category"] for name, row in _MAP.items()}


def test_the_extension_leaves_severity_to_the_line() -> None:
    # A removal that failed has a higher one than a removal, and both have one event id.
    assert [] == [name for name, one in _EVENTS.items() if "severity" in one]
    assert set("123567") >= {row["severity"] for row in _MAP.values()}
