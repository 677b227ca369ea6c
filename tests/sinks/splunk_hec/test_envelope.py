"""Envelopes hold the seven keys that HEC knows and nothing else, and lose no byte of an event."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from forwarder.core.contracts import BatchEvent
from forwarder.sinks.splunk_hec.envelope import (
    Envelopes,
    SplunkHecConfig,
    raw_query,
    seconds,
)
from forwarder.testing.fake_sinks import batch_of, make_event

KEYS = {"time", "host", "source", "sourcetype", "index", "event", "fields"}


def config(**more: Any) -> SplunkHecConfig:
    return SplunkHecConfig.model_validate({"url": "https://splunk:8088", "token": "t", **more})


def envelopes(events: Sequence[BatchEvent], *, json: bool = True, **more: Any) -> list[Any]:
    body = Envelopes(config(**more), json=json).encode(events)
    return [orjson.loads(line) for line in body.splitlines()]


def test_an_envelope_says_when_where_and_what() -> None:
    event = make_event(0, body=b'{"a":1}')

    assert envelopes([event]) == [
        {
            "host": "acme",
            "source": "cloudflare_access",
            "sourcetype": "cloudflare:access_requests",
            "time": 1767225600.123456,
            "event": {"a": 1},
        }
    ]


def test_labels_follow_the_settings_and_their_placeholders() -> None:
    events = [make_event(0), make_event(1, stream="scim_updates", account="beta")]
    found = envelopes(
        events, host="h", source="{account}/{stream}", sourcetype="s", index="i_{stream}"
    )

    assert [event["source"] for event in found] == ["acme/access_requests", "beta/scim_updates"]
    assert [event["index"] for event in found] == ["i_access_requests", "i_scim_updates"]
    assert {(event["host"], event["sourcetype"]) for event in found} == {("h", "s")}


def test_a_label_that_would_be_empty_is_left_to_the_token() -> None:
    """The forwarder's own events have no account, and HEC refuses an empty index."""
    (found,) = envelopes([make_event(0, stream="forwarder", account="")], index="{account}")

    assert found.keys() == {"source", "sourcetype", "time", "event"}


def test_no_envelope_has_a_key_that_hec_does_not_know() -> None:
    found = envelopes([make_event(0)], index="i", fields={"team": "blue", "level": 3})

    assert found[0].keys() == KEYS
    assert found[0]["fields"] == {"team": "blue", "level": 3}


@given(
    st.lists(
        st.builds(
            lambda n, us, name: make_event(n, stream=name, account=name)._replace(time_us=us),
            st.integers(0, 9),
            st.sampled_from([0, 1, 1_000_000]),
            st.sampled_from(["a", "b"]),
        )
    )
)
def test_neighbours_do_not_change_an_envelope(events: list[BatchEvent]) -> None:
    together = Envelopes(config(), json=True).encode(events)

    assert together == b"".join(Envelopes(config(), json=True).encode([one]) for one in events)


def test_a_line_of_text_becomes_a_string() -> None:
    text = 'CEF:0|x|"quoted"|\\|\n\u2028ü'
    event = make_event(0, body=text.encode())

    assert envelopes([event], json=False)[0]["event"] == text


def test_bytes_that_are_no_utf8_do_not_break_an_envelope() -> None:
    assert envelopes([make_event(0, body=b"\xff")], json=False)[0]["event"] == "\ufffd"


@given(st.integers(-(10**17), 10**18))
def test_seconds_are_exact(time_us: int) -> None:
    whole, _, rest = seconds(time_us).decode().partition(".")

    assert len(rest) == 6
    assert int(whole + rest) == time_us


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_label_stays_one_label(account: str, text: str) -> None:
    event = make_event(0, account=account, body=orjson.dumps({"text": text}))
    found = envelopes([event], source="{account}")

    assert found == [found[0] | {"event": {"text": text}}]
    assert found[0].get("source", "") == account


def test_raw_sends_lines_and_its_labels_as_a_query() -> None:
    events = [make_event(0, body=b"a"), make_event(1, body=b"b")]

    assert batch_of(events).lines() == b"a\nb\n"
    assert raw_query(config(endpoint="raw")) == ""
    query = raw_query(config(endpoint="raw", index="i", sourcetype="a b&c"))
    assert query == "?sourcetype=a+b%26c&index=i"


@pytest.mark.parametrize(
    "more",
    [
        {"endpoint": "raw", "index": "{stream}"},
        {"endpoint": "raw", "fields": {"a": "b"}},
        {"url": "https://splunk:8088/services/collector/event"},
        {"fields": {"a": {"b": "c"}}},
        {"ack": "maybe"},
        {"token": None},
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**more)


def test_off_may_be_written_as_yaml_reads_it() -> None:
    assert config(ack=False).ack == "off"
