"""CEF and LEEF read back as what was put in, cleaned as documented."""

from __future__ import annotations

import re
from typing import Any

import cefp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.errors import ConfigError
from forwarder.core.schema import Login
from forwarder.formats.cef import CefFormat
from forwarder.formats.leef import LeefFormat
from forwarder.formats.lines import clean
from forwarder.formats.ocsf import OcsfConfig, OcsfFormat
from forwarder.formats.templates import FormatConfig
from forwarder.testing.samples import LOGIN, event_of, sample_events
from tests.formats.strategies import HOSTILE, any_texts, logins, streams_and_rows

_CEF, _LEEF = CefFormat(FormatConfig()), LeefFormat(FormatConfig())
_CEF_LIMITS = {"act": 63, "outcome": 63, "externalId": 40, "deviceExternalId": 255}
_SEPARATORS = "\n\r\t\0\x0b\x0c\x1b\x7f\x85\u2028\u2029\u202e\u2066"


def read_leef(line: str) -> tuple[list[str], dict[str, str]]:
    """Read LEEF 2.0 as its specification says: six header fields, then pairs, then nothing."""
    *head, pairs = line.split("|", 6)
    version, delimiter = head[0], head[5]
    assert version == "LEEF:2.0"
    separator = chr(int(delimiter.removeprefix("0").removeprefix("x"), 16))
    fields: dict[str, str] = {}
    for pair in pairs.split(separator):
        key, equals, value = pair.partition("=")
        assert equals
        assert key not in fields
        fields[key] = value
    return head, fields


@given(any_texts, st.integers(0, 5000))
def test_cleaning_gives_one_line_within_its_limit(text: str, limit: int) -> None:
    cleaned = clean(text, limit)

    assert len(cleaned.encode()) <= limit
    assert not set(cleaned) & set(_SEPARATORS)
    assert clean(cleaned, limit) == cleaned


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=100))
def test_cleaning_leaves_ordinary_texts_alone(text: str) -> None:
    assert clean(text, 1000) == text


def test_cleaning_cuts_between_characters() -> None:
    assert clean("\u00e4\U0001f600", 5) == "\u00e4"
    assert clean("\ud800a", 10) == "?a"


@given(logins)
def test_cef_reads_back(row: dict[str, Any]) -> None:
    event = event_of("access_requests", row)
    assert isinstance(event, Login)

    read = cefp.parse(_CEF.render(event).decode())
    extension = read["extension"]

    sources = {"suser": event.user_email, "suid": event.user_id, "dhost": event.host}
    result = {True: "allowed", False: "denied", None: ""}[event.allowed]
    sources |= {"destinationServiceName": event.app_name, "act": result}
    for key, text in sources.items():
        assert extension.get(key, "") == clean(text, _CEF_LIMITS.get(key, 1023))
    customs = {extension.get(f"cs{n}Label"): extension.get(f"cs{n}") for n in range(1, 7)}
    for label, text in {"connection": event.connection, "rayId": event.ray_id}.items():
        assert (customs.get(label) or "") == clean(text, 4000)
    assert extension["externalId"] == event.id
    assert read["device"]["event_class_id"] == clean(f"access.{event.action or 'event'}", 1023)
    assert read["severity"] in {"2", "5"}


@given(streams_and_rows)
def test_cef_keeps_to_its_limits_and_keys(given: tuple[str, dict[str, Any]]) -> None:
    line = _CEF.render(event_of(*given)).decode()

    read = cefp.parse(line)
    for key, value in read["extension"].items():
        custom = key.startswith("cs") and not key.endswith("Label")
        assert key.isalnum()
        assert len(value.encode()) <= _CEF_LIMITS.get(key, 4000 if custom else 1023)
    assert read["device"]["vendor"] == "Cloudflare"
    assert not line.endswith(" ")


@given(streams_and_rows)
def test_leef_reads_back(given: tuple[str, dict[str, Any]]) -> None:
    event = event_of(*given)

    head, fields = read_leef(_LEEF.render(event).decode())

    assert head[:4] == ["LEEF:2.0", "Cloudflare", "Access", "1"]
    assert len(head[4].encode()) <= 255
    assert fields["devTime"] == str(event.time_us // 1000)
    assert fields["eventUid"] == event.id
    assert fields.get("action", "") == clean(event.action, 1024)
    if isinstance(event, Login):
        assert fields.get("usrName", "") == clean(event.user, 255)
        assert fields.get("url", "") == clean(event.url, 1024)
        assert fields.get("src", "") == event.ip_address


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_stays_in_its_field(text: str) -> None:
    event = event_of("access_requests", {**LOGIN, "user_email": text})

    cef = cefp.parse(_CEF.render(event).decode())["extension"]
    _, leef = read_leef(_LEEF.render(event).decode())

    plain = event_of("access_requests", LOGIN)
    usual = cefp.parse(_CEF.render(plain).decode())["extension"]
    assert {key: cef[key] for key in cef if key not in {"suser", "cs6", "cs6Label"}} == {
        key: usual[key] for key in usual if key != "suser"
    } | {"externalId": event.id}
    assert leef["rayId"] == LOGIN["ray_id"]


def test_an_ipv6_address_has_a_key_of_its_own_in_cef() -> None:
    event = event_of("access_requests", {**LOGIN, "ip_address": "2001:db8::1"})

    extension = cefp.parse(_CEF.render(event).decode())["extension"]

    assert "src" not in extension
    assert extension["c6a2"] == "2001:db8::1"
    assert extension["c6a2Label"] == "Source IPv6 Address"


@pytest.mark.parametrize("style", [_CEF, _LEEF])
def test_a_name_that_cannot_be_a_key_is_refused(style: Any) -> None:
    with pytest.raises(ConfigError, match="add_fields"):
        style.adding({"a b": "c"})


@pytest.mark.parametrize(
    ("domain", "url"),
    [
        ("h.example", "https://h.example"),
        ("h.example/a/b", "https://h.example/a/b"),
        ("https://h.example/a", "https://h.example/a"),
        ("https://h.example", "https://h.example"),
    ],
)
def test_an_application_s_url_has_one_scheme(domain: str, url: str) -> None:
    event = event_of("access_requests", {**LOGIN, "app_domain": domain})

    cef, leef = _CEF.render(event).decode(), _LEEF.render(event).decode()

    assert f" request={url} " in cef
    assert f"\turl={url}\t" in leef


def test_every_format_says_the_same_severity_of_an_event() -> None:
    """CEF names 0 to 3 low, 4 to 6 medium, 7 and 8 high; LEEF takes the same numbers."""
    bands = {"Informational": range(4), "Medium": range(4, 7), "High": range(7, 9)}
    ocsf = OcsfFormat(OcsfConfig())

    for event in sample_events():
        number = int(re.split(r"(?<!\\)\|", _CEF.render(event).decode())[6])
        _, leef = read_leef(_LEEF.render(event).decode())
        word = orjson.loads(ocsf.render(event))["severity"]
        assert number in bands[word], (word, number, event.row)
        assert int(leef["sev"]) == number
