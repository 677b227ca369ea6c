"""Status lists each pushed dataset, and what it lists says nothing of what was not pushed."""

from __future__ import annotations

from forwarder.core.contracts import LIVE, PUSH, StreamKey
from forwarder.core.journal import Cursor
from forwarder.core.source_contract import PushedPart, Records
from forwarder.runtime.cell import Seat
from forwarder.runtime.pushes import CellIntake, pushes_json, seen_from_outside
from forwarder.runtime.replica import Replica
from tests.runtime.conftest import ACCOUNTS

NOON_US = 1_796_040_000_000_000
CURSORS = [
    Cursor("a" * 32, "access_requests", LIVE, NOON_US, None, 9),
    Cursor("a" * 32, "logpush_http_requests", PUSH, NOON_US, None, 3),
    Cursor("b" * 32, "logpush_gateway_dns", PUSH, NOON_US - 86_400_000_000, None, 3),
]


def test_each_dataset_is_listed_with_its_last_push_also_after_a_restart() -> None:
    labels, now_us = {"a" * 32: "acme"}, NOON_US + 61_500_000
    rows = {"acme/logpush_http_requests": 250.0, "acme/access_requests": 9.0}
    shown = pushes_json(CURSORS, labels, rows, {"acme/http_requests": 42.04}, now_us)

    assert shown == [
        {
            "account": "acme",
            "dataset": "http_requests",
            "last_push": "2026-11-30T12:00:00.000000Z",
            "last_push_seconds_ago": 61.5,
            "rows": 250,
            "oldest_row_seconds": 42.0,
        },
        {
            "account": "b" * 32,
            "dataset": "gateway_dns",
            "last_push": "2026-11-29T12:00:00.000000Z",
            "last_push_seconds_ago": 86_461.5,
            "rows": 0,
            "oldest_row_seconds": None,
        },
    ]


def test_replicas_reach_each_other_at_the_host_that_the_settings_name() -> None:
    assert "http://[::1]:8080" == seen_from_outside("http://[::1]:8080", None)
    assert "https://pod.example:8080" == seen_from_outside("https://[::]:8080", "pod.example")
    assert "https://[fd00::7]:8080" == seen_from_outside("https://0.0.0.0:8080", "fd00::7")


async def test_the_datasets_of_an_account_are_counted_without_those_of_others(
    replica: Replica, seat: Seat
) -> None:
    await seat.expect().start()
    intake = CellIntake(replica, seat)
    for account, dataset in zip(ACCOUNTS, ("http_requests", "gateway_dns"), strict=True):
        key = StreamKey(account, f"logpush_{dataset}")
        await intake.store(PushedPart(key, dataset, Records.of([])))

    assert {"logpush_http_requests"} == await intake.streams(ACCOUNTS[0])
    assert {"logpush_gateway_dns"} == await intake.streams(ACCOUNTS[1])
