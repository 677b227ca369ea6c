"""Twenty thousand events through a bad hour: each arrives or is a dead letter, none is missing.

The destination answers a random mix of success, throttling, 5xx, HTML, silence, half an answer,
reset and partial refusal, and is killed and restarted three times.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest

from forwarder.sinks.elasticsearch import ElasticsearchConfig, ElasticsearchSink
from forwarder.sinks.http import HttpSink, HttpSinkConfig
from forwarder.sinks.loki import LokiConfig, LokiSink
from forwarder.sinks.object_store import ObjectStoreSink
from forwarder.sinks.object_store.config import ObjectStoreConfig
from forwarder.sinks.otlp import OtlpConfig, OtlpSink
from forwarder.sinks.splunk_hec import SplunkHecConfig, SplunkHecSink
from forwarder.testing.fake_sinks import sink_context
from forwarder.testing.fault_run import Outcome, bad_hour, deliver_all, die_three_times
from forwarder.transport.settings import Secret
from tests.sinks.fakes.elastic import FakeElastic
from tests.sinks.fakes.hec import FakeHec
from tests.sinks.fakes.loki import FakeLoki
from tests.sinks.fakes.otlp import FakeOtlp
from tests.sinks.fakes.s3 import FakeS3
from tests.sinks.fakes.webhook import FakeWebhook
from tests.sinks.file.disk import Disk

pytestmark = pytest.mark.proof

EVENTS = 20_000
BATCH = 100
DEATHS_APART = 60
POISONED = 4999
"""Every so many events there is one that the destination must refuse."""


def poisoned(body: bytes, offset: int) -> bytes | None:
    return body if offset % POISONED == POISONED - 1 else None


def check(
    outcome: Outcome,
    arrived: Mapping[str, int],
    met: Mapping[str, int],
    *,
    most: int,
    dead: int = EVENTS // POISONED,
) -> None:
    """See that nothing is missing; ``most`` bounds the events that may be there twice."""
    repeated = sum(count - 1 for count in arrived.values())
    sys.stdout.write(f"\n{dict(met)}\n{len(outcome.dead)} dead letters, {repeated} repeats\n")
    assert arrived.keys() | outcome.dead == outcome.ids
    assert len(outcome.dead) == dead
    assert not arrived.keys() & outcome.dead
    assert repeated <= most
    assert len(met) >= 9, "the hour was not bad enough"


def ambiguous(met: Mapping[str, int]) -> int:
    """Return how many events were taken by a request whose answer did not say so, at most."""
    in_flight_at_a_death = 3 * 10
    unclear = met.get("taken, then reset", 0) + met.get("taken, then html 504", 0)
    return (unclear + in_flight_at_a_death) * BATCH


@pytest.mark.parametrize("acks", [False, True], ids=["plain", "acks"])
async def test_splunk_hec(*, acks: bool) -> None:
    async with FakeHec(acks=acks, ack_delay=0.02) as hec:
        hec.keep_bodies = False
        met = bad_hour(hec, Random(1))
        config = SplunkHecConfig(
            url=hec.url,
            token=Secret(hec.token),
            ack_interval=0.01,
            ack_timeout=1,
            response_timeout=0.3,
        )
        deaths = asyncio.create_task(die_three_times(hec, DEATHS_APART))
        outcome = await deliver_all(
            SplunkHecSink(config, sink_context()), EVENTS, poison=lambda o: poisoned(b'""', o)
        )
        await deaths
        # What waited for an acknowledgement at a death is sent again too: up to a window of it.
        most = ambiguous(met) + (256 * 6 * BATCH if acks else 0)
        check(outcome, hec.arrived(), met, most=most)


async def test_elasticsearch_has_no_repeats() -> None:
    async with FakeElastic() as elastic:
        met = bad_hour(elastic, Random(2))
        config = ElasticsearchConfig(
            url=elastic.url, api_key=Secret(elastic.api_key), response_timeout=0.5
        )
        deaths = asyncio.create_task(die_three_times(elastic, DEATHS_APART))
        outcome = await deliver_all(
            ElasticsearchSink(config, sink_context()),
            EVENTS,
            poison=lambda o: poisoned(b'{"clash":"x"}', o),
        )
        await deaths
        check(outcome, elastic.arrived(), met, most=0)


async def test_loki_has_no_repeats() -> None:
    async with FakeLoki() as loki:
        loki.window_us = 10**15
        met = bad_hour(loki, Random(5))
        config = LokiConfig(
            url=loki.url, bearer_token=Secret(loki.token), tenant=loki.tenant, response_timeout=0.5
        )
        deaths = asyncio.create_task(die_three_times(loki, DEATHS_APART))
        outcome = await deliver_all(LokiSink(config, sink_context()), EVENTS)
        await deaths
        assert loki.arrived() == dict.fromkeys(outcome.ids, 1)
        assert set(met) >= {"503", "reset", "silence"}


async def test_otlp() -> None:
    async with FakeOtlp() as receiver:
        receiver.refused = b'"poison"'
        met = bad_hour(receiver, Random(6))
        config = OtlpConfig(
            url=receiver.url, bearer_token=Secret(receiver.token), response_timeout=0.3
        )
        deaths = asyncio.create_task(die_three_times(receiver, DEATHS_APART))
        outcome = await deliver_all(
            OtlpSink(config, sink_context()), EVENTS, poison=lambda o: poisoned(b'"poison"', o)
        )
        await deaths
        # Whoever is in a batch with a rejected record comes again while it is halved.
        check(outcome, receiver.arrived(), met, most=EVENTS)


async def test_a_bucket_has_no_repeats() -> None:
    """What was taken and not answered is overwritten with itself."""
    async with FakeS3() as bucket:
        met = bad_hour(bucket, Random(6))
        config = ObjectStoreConfig(
            url=f"s3://{bucket.bucket}",
            endpoint=bucket.url,
            region="us-east-1",
            access_key_id=Secret(bucket.key_id),
            secret_access_key=Secret(bucket.secret),
            response_timeout=0.5,
        )
        deaths = asyncio.create_task(die_three_times(bucket, DEATHS_APART))
        outcome = await deliver_all(ObjectStoreSink(config, sink_context()), EVENTS)
        await deaths
        check(outcome, bucket.arrived(), met, most=0, dead=0)
        assert not bucket.different


async def test_http() -> None:
    async with FakeWebhook() as webhook:
        webhook.refused = b"poison"
        met = bad_hour(webhook, Random(3))
        config = HttpSinkConfig(
            url=webhook.url,
            bearer_token=Secret(webhook.token),
            response_timeout=0.3,
            success_codes=(202,),
        )
        webhook.status = 202
        deaths = asyncio.create_task(die_three_times(webhook, DEATHS_APART))
        outcome = await deliver_all(
            HttpSink(config, sink_context()), EVENTS, poison=lambda o: poisoned(b'"poison"', o)
        )
        await deaths
        check(outcome, webhook.arrived(), met, most=ambiguous(met))


async def test_a_file_on_a_bad_disk_has_no_repeats(tmp_path: Path) -> None:
    disk, rng = Disk(tmp_path), Random(4)

    async def trouble() -> None:
        for _ in range(40):
            disk.room, disk.fail_fsync = rng.choice([None, 0, 100, 5000]), rng.random() < 0.3
            await asyncio.sleep(0.01)
        await disk.come_back()

    troubles = asyncio.create_task(trouble())
    outcome = await deliver_all(disk.sink(max_size="400kB", compress=False), EVENTS)
    await troubles
    whole = written(tmp_path)

    assert len(whole.splitlines()) == EVENTS
    assert all(identity.encode() in whole for identity in sorted(outcome.ids)[::97])
    assert not outcome.dead


def written(folder: Path) -> bytes:
    """Return the file and those it gave way to."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("access*")))
