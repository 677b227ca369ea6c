"""The fake collector does what live ones were seen to do."""

import gzip
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.sinks.fakes.hec import FakeHec

CHANNEL = str(uuid.uuid4())


class Curl:
    """A bare client that sends just what a test says."""

    def __init__(self, hec: FakeHec, session: aiohttp.ClientSession) -> None:
        self.hec = hec
        self._session = session

    async def post(
        self, body: bytes, path: str = "event", *, channel: str | None = CHANNEL, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        sent = {"Authorization": f"Splunk {self.hec.token}"}
        if channel:
            sent["X-Splunk-Request-Channel"] = channel
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.hec.url}/services/collector/{path}"
        async with self._session.post(url, data=body, headers=sent) as answer:
            kind = answer.content_type
            return answer.status, (await answer.json() if kind == "application/json" else {})

    async def acks(self, *ids: int, channel: str = CHANNEL) -> dict[str, bool]:
        _, said = await self.post(f'{{"acks":{list(ids)}}}'.encode(), "ack", channel=channel)
        return dict(said["acks"])


@pytest.fixture
async def hec() -> AsyncIterator[FakeHec]:
    async with FakeHec() as hec:
        yield hec


@pytest.fixture
async def curl(hec: FakeHec) -> AsyncIterator[Curl]:
    async with aiohttp.ClientSession() as session:
        yield Curl(hec, session)


def events(hec: FakeHec) -> list[Any]:
    return [found["event"] for found in hec.indexed]


async def test_objects_may_follow_each_other_with_or_without_a_line_end(curl: Curl) -> None:
    answer = await curl.post(b'{"event":1}{"event":2}\n{"event":3}')

    assert answer == (200, {"text": "Success", "code": 0})
    assert events(curl.hec) == [1, 2, 3]


async def test_an_unknown_key_silently_hides_that_object_and_all_after_it(curl: Curl) -> None:
    status, said = await curl.post(b'{"event":1}{"event":2,"id":"x"}{"event":3}')

    assert (status, said["code"]) == (200, 0)
    assert events(curl.hec) == [1]


async def test_an_unknown_key_in_the_only_object_is_no_data(curl: Curl) -> None:
    status, said = await curl.post(b'{"event":1,"id":"x"}')

    assert (status, said["code"]) == (400, 5)


async def test_an_object_with_fields_and_no_event_is_silently_skipped(curl: Curl) -> None:
    status, _ = await curl.post(b'{"fields":{"a":"b"}}{"event":2}')

    assert status == 200
    assert events(curl.hec) == [2]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"no json", 6),
        (b'{"host":"x"}', 12),
        (b'{"event":""}', 13),
        (b'{"event":"  "}', 13),
        (b'{"event":1,"fields":{"a":{"b":1}}}', 15),
    ],
)
async def test_all_before_the_bad_object_is_indexed_and_nothing_after_it(
    curl: Curl, bad: bytes, code: int
) -> None:
    curl.hec.acks = True
    status, said = await curl.post(b'{"event":1}\n{"event":2}\n' + bad + b'\n{"event":3}')
    first, at_start = await curl.post(bad + b'\n{"event":4}')

    assert (status, said["code"], said["invalid-event-number"], said["ackId"]) == (400, code, 2, 0)
    assert (first, at_start["invalid-event-number"], "ackId" in at_start) == (400, 0, False)
    assert events(curl.hec) == [1, 2]


async def test_a_wrong_index_names_the_object_after_it(curl: Curl) -> None:
    curl.hec.indexes = frozenset({"main"})
    _, said = await curl.post(b'{"event":1,"index":"main"}{"event":2,"index":"other"}')

    assert (said["code"], said["invalid-event-number"]) == (7, 2)
    assert events(curl.hec) == [1]


async def test_an_empty_body_is_no_data(curl: Curl) -> None:
    assert (await curl.post(b""))[1]["code"] == 5


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [("", (401, 2)), ("Basic eDp5", (401, 3)), ("Splunk wrong", (403, 4))],
)
async def test_who_may_not_enter(curl: Curl, authorization: str, expected: tuple[int, int]) -> None:
    status, said = await curl.post(b'{"event":1}', Authorization=authorization)

    assert (status, said["code"]) == expected


async def test_a_disabled_token_is_said_to_be_disabled(curl: Curl) -> None:
    await curl.hec.lock_out()

    assert (await curl.post(b'{"event":1}'))[1]["code"] == 1


async def test_health_needs_no_token(hec: FakeHec) -> None:
    async with aiohttp.request("GET", f"{hec.url}/services/collector/health") as answer:
        assert await answer.json() == {"text": "HEC is healthy", "code": 17}


async def test_gzip_is_understood_and_deflate_is_not(curl: Curl) -> None:
    good, _ = await curl.post(gzip.compress(b'{"event":1}'), Content_Encoding="gzip")
    bad, said = await curl.post(b"anything", Content_Encoding="deflate")

    assert (good, bad, said) == (200, 415, {})
    assert events(curl.hec) == [1]


async def test_a_broken_gzip_stream_is_bad_without_naming_an_event(curl: Curl) -> None:
    status, said = await curl.post(b"no gzip at all", Content_Encoding="gzip")

    assert (status, said) == (400, {"text": "Invalid data format", "code": 6})


async def test_acknowledgements_count_from_zero_in_each_channel(curl: Curl) -> None:
    curl.hec.acks = True
    ids = [(await curl.post(b'{"event":1}'))[1]["ackId"] for _ in range(3)]
    other = (await curl.post(b'{"event":1}', channel=str(uuid.uuid4())))[1]["ackId"]

    assert (ids, other) == ([0, 1, 2], 0)


async def test_true_is_said_once_and_unknown_ids_are_false(curl: Curl) -> None:
    curl.hec.acks = True
    await curl.post(b'{"event":1}')

    assert await curl.acks(0, 7) == {"0": True, "7": False}
    assert await curl.acks(0) == {"0": False}


async def test_another_channel_knows_nothing(curl: Curl) -> None:
    curl.hec.acks = True
    await curl.post(b'{"event":1}')

    assert await curl.acks(0, channel=str(uuid.uuid4())) == {"0": False}


async def test_a_restart_forgets_acknowledgements_and_counts_anew(curl: Curl) -> None:
    curl.hec.acks = True
    await curl.post(b'{"event":1}')
    await curl.hec.restart()

    assert await curl.acks(0) == {"0": False}
    assert (await curl.post(b'{"event":1}'))[1]["ackId"] == 0


@pytest.mark.parametrize(("cloud", "code"), [(False, 10), (True, 28)])
async def test_a_missing_channel_matters_only_with_acknowledgement(
    curl: Curl, *, cloud: bool, code: int
) -> None:
    curl.hec.cloud = cloud
    without, _ = await curl.post(b'{"event":1}', channel=None)
    curl.hec.acks = True
    status, said = await curl.post(b'{"event":1}', channel=None)

    assert without == 200
    assert (status, said["code"]) == (400, code)


async def test_asking_for_acknowledgements_that_are_off_is_refused(curl: Curl) -> None:
    status, said = await curl.post(b'{"acks":[0]}', "ack")

    assert (status, said["code"]) == (400, 14)


async def test_the_cloud_calls_too_many_bytes_a_bad_first_event(curl: Curl) -> None:
    curl.hec.cloud = True
    big = gzip.compress(b'{"event":"' + b"x" * 5_242_900 + b'"}')
    status, said = await curl.post(big, Content_Encoding="gzip")
    curl.hec.cloud = False
    enterprise, _ = await curl.post(big, Content_Encoding="gzip")

    assert (status, said) == (
        400,
        {"text": "Invalid data format", "code": 6, "invalid-event-number": 0},
    )
    assert enterprise == 200


async def test_raw_takes_lines_with_one_set_of_labels(curl: Curl) -> None:
    await curl.post(b"one\ntwo\n", "raw?index=main&sourcetype=x")

    labels = {"index": "main", "sourcetype": "x"}
    assert curl.hec.lines == [(labels, b"one"), (labels, b"two")]
