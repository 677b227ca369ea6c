"""The API of the measurements shows every row once to a reader that walks by time."""

from __future__ import annotations

import orjson
import pytest

from bench.cloudflare import History, Trickle, envelope
from bench.rows import ROWS_A_SECOND, changes
from forwarder.core.timing import parse_us

NOW = 1_790_000_000
COUNT = 5000


def _rows(text: bytes) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = orjson.loads(b"[" + text + b"]")
    return rows


def test_pages_have_all_rows_oldest_first() -> None:
    history, found = History(COUNT, NOW * 1_000_000), list[dict[str, str]]()
    for skip in range(0, COUNT, 1000):
        text, count = history.page(0, skip)
        found += _rows(text)
        assert count == 1000

    times = [row["created_at"] for row in found]
    assert times == sorted(times)
    assert COUNT == len({(row["created_at"], row["ray_id"]) for row in found})
    assert history.page(0, COUNT) == (b"", 0)


def test_changes_have_bodies_as_large_as_those_of_a_first_provisioning() -> None:
    text, count = History(COUNT, NOW * 1_000_000, changes, block=1000).page(0, 0)
    found = _rows(text)
    later = _rows(History(COUNT, NOW * 1_000_000, changes, block=1000).page(NOW - 20, 0)[0])

    assert count == len(found) == 1000
    assert 500 < sum(len(row["request_body"]) for row in found) / count < 2000
    # The same rows again, at another time.
    assert later[0] == {**found[0], "logged_at": later[0]["logged_at"]} != found[0]


def test_a_page_begins_at_the_second_asked_for() -> None:
    since = NOW - 10
    text, count = History(COUNT, NOW * 1_000_000).page(since, 0)

    assert count == 10 * ROWS_A_SECOND
    assert parse_us(_rows(text)[0]["created_at"]) == since * 1_000_000


def test_nothing_is_older_or_newer_than_the_history() -> None:
    history = History(0, NOW * 1_000_000)

    assert history.page(0, 0) == (b"", 0)
    assert history.page(NOW + 100, 0) == (b"", 0)


def test_what_has_come_stays_and_tells_when_it_came() -> None:
    trickle = Trickle(1000)
    while not trickle.page(0, 0)[1]:
        pass
    first = _rows(trickle.page(0, 0)[0])[0]

    assert first == _rows(trickle.page(0, 0)[0])[0]
    came = int(first["ray_id"], 16) // 1_000_000_000
    assert parse_us(first["created_at"]) == pytest.approx(came * 1_000_000, abs=1)


def test_an_answer_is_cloudflares() -> None:
    answer = orjson.loads(envelope(b'{"a":1}', 1))

    assert answer["success"] is True
    assert answer["result"] == [{"a": 1}]
    assert answer["result_info"]["count"] == 1
