"""The state of a daemon as a person reads it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from forwarder import __version__
from forwarder.cli.status import full, rendered, summary, understood
from forwarder.core.errors import StateError
from tests.cli.lacking import changed, lacking

STATE: dict[str, Any] = {
    "version": "1.2.3",
    "uptime_seconds": 3700,
    "config": "abcdef",
    "ready": False,
    "state": "not_ready",
    "reasons": ["sink splunk is held: invalid token (make a new one)"],
    "streams": [
        {
            "account": "[acme]",
            "stream": "access_requests",
            "phase": "running",
            "covered_until": "2026-07-01T12:00:00.123456Z",
            "lag_seconds": 4.2,
            "retention_left_seconds": None,
            "error": "",
            "hint": "",
        }
    ],
    "sinks": [
        {
            "sink": "splunk",
            "type": "splunk_hec",
            "phase": "held",
            "backlog_events": 1234567,
            "oldest_unacknowledged_seconds": 90.4,
            "dead_letters": 2,
            "error": "invalid token",
            "hint": "make a new one",
            "lanes": [
                {"lane": "live", "backlog_events": 1234000},
                {"lane": "replay:7f", "backlog_events": 567},
            ],
        }
    ],
    "journal": {
        "undelivered_bytes": 2**30,
        "limit_bytes": 2**31,
        "file_bytes": 2**20,
        "gate_closed": True,
    },
    "backfills": [
        {
            "lane": "backfill:2d",
            "account": "[acme]",
            "stream": "access_requests",
            "since": "2026-07-01T00:00:00Z",
            "done_until": "2026-07-01T03:00:00Z",
            "until": "2026-07-01T12:00:00Z",
            "rows": 4812,
        }
    ],
    "dead_letters": [
        {"sink": "splunk", "reason": "[no] index", "events": 2, "latest": "2026-07-01T11:00:00Z"}
    ],
    "gaps": {
        "total": 3,
        "open": 1,
        "latest": [
            {
                "scope": "acme/scim_updates",
                "reason": "older_than_retention",
                "since": "2026-06-01T00:00:00Z",
                "until": "2026-06-02T00:00:00Z",
                "rows": None,
                "detail": "the API was out",
                "closed": None,
            }
        ],
    },
}


def printed(state: dict[str, Any], width: int = 160) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(rendered(state))
    return stream.getvalue()


def test_what_keeps_it_from_being_ready_stands_at_the_top() -> None:
    head = printed(STATE).splitlines()[:2]

    assert head[0].startswith("not ready  version 1.2.3, up 1h1m40s, config abcdef")
    assert head[1].strip() == "sink splunk is held: invalid token (make a new one)"


def test_a_degraded_forwarder_says_why() -> None:
    reasons = ["sink splunk gave up 3 event(s) in the last 15 min"]
    head = printed({**STATE, "ready": True, "state": "degraded", "reasons": reasons}).splitlines()

    assert head[0].startswith("degraded  version 1.2.3")
    assert head[1].strip() == reasons[0]


def test_settings_that_are_refused_are_shown() -> None:
    state = {**STATE, "reasons": [], "settings": {"refused": ["sinks.a: unknown key"]}}
    head = printed(state).splitlines()[:2]

    assert head[1].strip() == "settings are refused: sinks.a: unknown key"


def test_streams_and_sinks_have_a_line_each() -> None:
    lines = printed(STATE).splitlines()

    (stream,) = [line for line in lines if line.startswith("[acme]")]
    (sink,) = [line for line in lines if "splunk_hec" in line]
    assert stream.split() == ["[acme]", "access_requests", "running", "2026-07-01T12:00:00Z", "4s"]
    assert "1,234,567" in sink
    assert "1m30s" in sink
    assert sink.split() == ["splunk", "splunk_hec", "held", "1,234,567", "1m30s", "2"]


def test_what_troubles_a_sink_is_told_once_with_what_to_do() -> None:
    held = printed(STATE).splitlines()
    waiting = printed({**STATE, "ready": True, "state": "ready", "reasons": []}).splitlines()

    assert [line.strip() for line in held if "make a new one" in line] == [
        "sink splunk is held: invalid token (make a new one)"
    ]
    assert [line for line in waiting if "make a new one" in line] == [
        "sink splunk: invalid token (make a new one)"
    ]


def test_tables_stand_apart_and_nothing_follows_the_last() -> None:
    lines = [line.strip() for line in printed(STATE).splitlines()]

    assert "" in lines
    assert lines[-1]


def test_a_time_is_in_one_piece_on_a_narrow_terminal() -> None:
    text = printed(STATE, width=80)

    assert "2026-07-01T12:00:00Z" in text
    assert "access_requests" in text


def test_a_full_journal_says_what_that_means() -> None:
    text = printed(STATE)

    assert "journal: 50.0% of 2GiB undelivered, file 1.0 MiB" in text
    assert "full: nothing is read until sink splunk catches up" in text


def test_a_full_journal_is_kept_by_the_sink_whose_oldest_event_has_waited_longest() -> None:
    waits = [("a", 3.0), ("b", 90.0), ("c", 0.0)]
    sinks = [{"sink": name, "oldest_unacknowledged_seconds": wait} for name, wait in waits]

    assert "full: nothing is read until sink b catches up" == full({"sinks": sinks})
    assert "full: nothing is read until a sink catches up" == full({"sinks": sinks[2:]})


def test_what_is_read_or_sent_again_is_listed_with_its_progress() -> None:
    lines = [line.split() for line in printed(STATE).splitlines()]

    (backfill,) = [line for line in lines if line[:1] == ["backfill:2d"]]
    assert backfill[-2:] == ["25%", "4,812"]
    assert ["replay:7f", "splunk", "567"] in lines


def test_dead_letters_and_open_gaps_say_why() -> None:
    lines = [line.split() for line in printed(STATE).splitlines()]

    assert ["2", "splunk", "2026-07-01T11:00:00Z", "[no]", "index"] in lines
    (gap,) = [line for line in lines if line[:1] == ["acme/scim_updates"]]
    assert gap[1] == "older_than_retention"


def test_each_list_of_losses_is_followed_by_the_command_that_shows_more() -> None:
    lines = printed(STATE).splitlines()

    for table, command in (("dead letters", "dead-letters list"), ("open gap", "gaps list")):
        begin = next(n for n, line in enumerate(lines) if line.startswith(table))
        assert f"see forwarder {command}" == lines[begin + 2].strip(), table


def test_what_is_over_is_counted_and_what_never_was_is_left_out() -> None:
    calm = {**STATE, "backfills": [], "dead_letters": []}
    closed = printed({**calm, "gaps": {"total": 3, "open": 0, "latest": []}})
    none = printed({**calm, "gaps": {"total": 0, "open": 0, "latest": []}})

    assert "gaps: 3 closed, see forwarder gaps list" in closed
    assert "gap" not in none
    assert "backfill" not in none


def test_nothing_in_a_status_steers_the_terminal() -> None:
    """Names, errors and details come from Cloudflare, from destinations, or from the settings."""
    evil = "\x1b]0;owned\x07\x9b31m\u202e\rgood\nbad"

    def hostile(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: hostile(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [hostile(inner, key) for inner in value]
        kept = {"state", "phase", "since", "until", "done_until", "covered_until", "latest", "lane"}
        return value + evil if isinstance(value, str) and key not in kept else value

    console = Console(file=io.StringIO(), width=200)
    console.print(rendered(hostile(STATE)))

    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "owned" in printed
    assert [sign for sign in printed if not sign.isprintable() and sign != "\n"] == []


def test_a_shared_journal_shows_owners_and_who_stands_by() -> None:
    shards = [{"shard": 0, "owner": "a:1", "epoch": 7}, {"shard": 1, "owner": "", "epoch": 2}]
    state = STATE | {"shards": shards, "replicas": [{"name": "a:1"}, {"name": "b:2"}]}

    lines = [line.split() for line in printed(state).splitlines()]

    assert ["0", "a:1", "7"] in lines
    assert ["1", "nobody", "2"] in lines
    assert ["b:2", "stands", "by"] in lines


def test_a_lost_replica_and_an_older_release_are_shown() -> None:
    lost = printed(STATE | {"lost_replicas": [{"name": "c:3", "seen_seconds": 312.4}]})
    older = printed(STATE | {"shards": [], "older_replicas": ["old:7"]})

    assert "c:3    lost, last seen 5m12s ago" in lost
    assert "old:7  of an older release, which has to stop first" in older


def test_a_status_of_another_release_is_shown_or_refused_in_one_sentence() -> None:
    refused = []
    for state in (*lacking(STATE), *changed(STATE)):
        try:
            with understood(state):
                printed(state)
                summary(state)
        except StateError as error:
            refused.append(str(error))

    said = f"the forwarder has version 1.2.3, this command has version {__version__}"
    assert len(refused) > 20
    assert [one for one in refused if said not in one and "KeyError: 'version'" not in one] == []


def test_a_status_of_this_release_that_cannot_be_shown_is_a_bug() -> None:
    state: dict[str, Any] = {"version": __version__}

    with pytest.raises(KeyError), understood(state):
        printed(state)
