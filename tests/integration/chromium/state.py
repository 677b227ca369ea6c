"""A daemon's state with something in every corner of the status page."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from random import Random
from typing import Any

NOW = 1_800_000_000.0
ATTACK = "<img src=x onerror=alert(1)><script>alert(2)</script>"
_POINTS = 241


def _moment(seconds_ago: float) -> str:
    return datetime.fromtimestamp(NOW - seconds_ago, UTC).isoformat().replace("+00:00", "Z")


def _stream(account: str, name: str, **more: Any) -> dict[str, Any]:
    return {
        "account": account,
        "stream": name,
        "phase": "running",
        "covered_until": _moment(8),
        "lag_seconds": 8.214,
        "retention_left_seconds": 86_391.8,
        "last_success_seconds_ago": 2.1,
        "error": "",
        "hint": "",
        "readers": {"live": _moment(8)},
        "parts": None,
        **more,
    }


def _sink(name: str, kind: str, style: str, **more: Any) -> dict[str, Any]:
    return {
        "sink": name,
        "type": kind,
        "format": style,
        "phase": "running",
        "backlog_events": 12,
        "oldest_unacknowledged_seconds": 0.8,
        "last_success": _moment(1),
        "in_flight_batches": 2,
        "dead_letters": 0,
        "attempts": 0,
        "error": "",
        "hint": "",
        "lanes": [{"lane": "live", "offset": 81_223, "backlog_events": 12}],
        **more,
    }


def state() -> dict[str, Any]:
    """Return what /status says of a daemon with some trouble."""
    replay = {"lane": "replay:7f3a", "offset": 40_112, "backlog_events": 1_940}
    elastic = _sink(
        "elastic",
        "elasticsearch",
        "ecs",
        phase="held",
        backlog_events=184_220,
        oldest_unacknowledged_seconds=5_220.0,
        last_success=_moment(5_222),
        in_flight_batches=0,
        dead_letters=37,
        error="https://es.example.net:9200 refuses the API key: 401 security_exception",
        hint="give the key the privileges create_doc and auto_configure",
        lanes=[{"lane": "live", "offset": 52_001, "backlog_events": 182_280}, replay],
    )
    refused = _stream(
        "globex",
        "scim_updates",
        phase="waiting",
        lag_seconds=2_410.0,
        error=f"502 from the API: {ATTACK}",
        hint="it is tried again",
    )
    return {
        "version": "1.4.0",
        "host": "forwarder-0",
        "pid": 1,
        "started": _moment(273_000),
        "uptime_seconds": 273_000,
        "config": "9f1c0a77be21",
        "live": True,
        "ready": False,
        "state": "not_ready",
        "reasons": ["sink elastic is held: 401 security_exception (give the key its privileges)"],
        "streams": [
            _stream("acme", "access_requests"),
            _stream("acme", "scim_updates", phase="idle", lag_seconds=21.0),
            _stream("globex", "access_requests"),
            refused,
        ],
        "sinks": [
            _sink("splunk", "splunk_hec", "cim"),
            _sink("bus", "kafka", "ocsf"),
            elastic,
            _sink("qradar", "syslog", "leef", phase="waiting", backlog_events=3_204),
        ],
        "journal": {
            "undelivered_bytes": 611_000_000,
            "stored_bytes": 1_302_000_000,
            "stored_rows": 2_410_332,
            "file_bytes": 1_480_000_000,
            "limit_bytes": 2 * 2**30,
            "gate_closed": False,
            "orphans": [{"sink": "old-elk", "backlog_events": 4_000}],
        },
        "backfills": [
            {
                "lane": "backfill:2d91",
                "account": "acme",
                "stream": "access_requests",
                "since": _moment(86_400),
                "until": _moment(43_200),
                "done_until": _moment(61_000),
                "rows": 48_812,
            }
        ],
        "gaps": {
            "total": 6,
            "open": 1,
            "latest": [
                _gap("globex/scim_updates", "retention", None, None, "the API was out for 26 h"),
                _gap("sink lab", "dropped_oldest", 40_211, _moment(80_000), "the journal was full"),
            ],
        },
        "dead_letters": [
            {
                "sink": "elastic",
                "reason": f"400 document_parsing_exception: {ATTACK}",
                "events": 36,
                "latest": _moment(5_400),
            },
            {"sink": "elastic", "reason": "event too large", "events": 1, "latest": _moment(9_000)},
        ],
        "tasks": [],
        "budgets": {"acme": 812.0, "globex": 640.0},
        "log": [
            {
                "time": _moment(5_220),
                "level": "error",
                "event": "sink_held",
                "sink": "elastic",
                "error": "401 security_exception",
                "hint": "give the key its privileges",
            },
            {"time": _moment(40), "level": "warning", "event": "poll_failed", "error": ATTACK},
        ],
        **_fleet(),
    }


def _fleet() -> dict[str, Any]:
    """Return three replicas on two shards, one of them lost, and a shard that nobody owns."""
    return {
        "shards": [
            {"shard": 0, "owner": "forwarder-0:1", "epoch": 4, "since": _moment(7_200)},
            {"shard": 1, "owner": "", "epoch": 9, "since": ""},
        ],
        "replicas": [_replica("forwarder-0:1", [0]), _replica("forwarder-1:1", [])],
        "lost_replicas": [_replica(f"forwarder-2:1 {ATTACK}", [], 312.4, "javascript:alert(3)")],
        "older_replicas": [],
    }


def _replica(
    name: str, shards: list[int], seen: float = 0.4, url: str = "http://10.0.0.7:9090"
) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1.4.0",
        "since": _moment(273_000),
        "admin_url": url,
        "push_url": "",
        "seen_seconds": seen,
        "shards": shards,
    }


def _gap(
    scope: str, reason: str, rows: int | None, closed: str | None, detail: str
) -> dict[str, Any]:
    return {
        "scope": scope,
        "reason": reason,
        "since": _moment(96_000),
        "until": _moment(90_000),
        "rows": rows,
        "detail": detail,
        "opened": _moment(90_000),
        "closed": closed,
    }


def history() -> dict[str, Any]:
    """Return an hour in which one sink fell behind."""
    chance = Random(7)
    wave = [
        max(0.0, 42 + 17 * math.sin(index / 31) + chance.gauss(0, 3.2)) for index in range(_POINTS)
    ]
    held = 90
    return {
        "interval_seconds": 15.0,
        "times": [NOW - 15 * (_POINTS - 1 - index) for index in range(_POINTS)],
        "streams": {
            "access_requests": {
                "new_per_second": [None, *wave[1:]],
                "lag_seconds": [8 + chance.random() * 4 for _ in wave],
            },
            "scim_updates": {
                "new_per_second": [None, *(value / 9 for value in wave[1:])],
                "lag_seconds": [18 + 10 * index for index in range(_POINTS)],
            },
        },
        "sinks": {
            name: {
                "delivered_per_second": [
                    None if index == 0 else 0.0 if stops and index > held else value * share
                    for index, value in enumerate(wave)
                ],
                "backlog_events": [
                    (index - held) * 1_200 if stops and index > held else chance.randrange(40)
                    for index in range(_POINTS)
                ],
                "oldest_seconds": [0.5] * _POINTS,
            }
            for name, share, stops in (
                ("splunk", 1.1, False),
                ("bus", 1.08, False),
                ("elastic", 1.04, True),
                ("qradar", 0.5, False),
            )
        },
    }
