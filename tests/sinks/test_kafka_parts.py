"""Events are laid out on partitions without loss, and refusals are answered, each in its way."""

from itertools import chain, pairwise
from random import Random
from typing import Any

import pytest
from aiokafka import errors as kafka
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import BatchEvent, Rejection
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.kafka import KafkaSink
from forwarder.sinks.kafka.records import Layout, Part, Records, Stamp, explain, judge
from forwarder.testing.fake_sinks import make_event

NOW_US = 1_767_225_700_000_000
events = st.lists(
    st.builds(
        lambda n, user, size, stream: make_event(n, stream=stream, body=b"x" * size)._replace(
            user=user
        ),
        st.integers(0, 1000),
        st.sampled_from(["", "ada", "bob", "cy"]),
        st.integers(0, 3000),
        st.sampled_from(["access_requests", "scim_updates"]),
    ),
    max_size=40,
)


def parts_of(layout: Layout, given_events: list[BatchEvent], partitions: int) -> list[Part]:
    counts = dict.fromkeys(layout.topics(given_events), partitions)
    return [part for chain in layout.chains(given_events, counts) for part in chain]


@given(
    given_events=events,
    key=st.sampled_from(["user", "event_id", "account", "none"]),
    partitions=st.integers(1, 7),
)
def test_every_event_is_in_one_part_and_no_part_is_too_large(
    given_events: list[BatchEvent], key: Any, partitions: int
) -> None:
    layout = Layout("t.{stream}", key, 5000)

    parts = parts_of(layout, given_events, partitions)

    placed = list(chain.from_iterable(part.events for part in parts))
    assert sorted(map(id, placed)) == sorted(map(id, given_events))
    for part in parts:
        assert sum(len(event.body) for event in part.events) <= part.size <= 5000
        assert layout.topics(part.events) == {part.topic}
        assert len(part.keys) == len(part.events)


@given(given_events=events)
def test_what_is_compressed_makes_larger_parts_until_a_broker_minds(
    given_events: list[BatchEvent],
) -> None:
    layout, plain = (Layout("t", "user", 5000, compressed=one) for one in (True, False))

    trusting = parts_of(layout, given_events, 1)
    layout.trust_no_compression()

    assert all(part.size <= 15_000 for part in trusting)
    assert all(one.size + two.size > 15_000 - 3512 for one, two in pairs_in_a_topic(trusting))
    assert [part.events for part in parts_of(layout, given_events, 1)] == [
        part.events for part in parts_of(plain, given_events, 1)
    ]


def pairs_in_a_topic(parts: list[Part]) -> list[tuple[Part, Part]]:
    return [(one, two) for one, two in pairwise(parts) if one.topic == two.topic]


@given(given_events=events, partitions=st.integers(1, 7))
def test_a_key_is_always_on_the_partition_that_kafkas_own_clients_choose(
    given_events: list[BatchEvent], partitions: int
) -> None:
    layout, everywhere = Layout("t", "user", 5000), list(range(partitions))

    parts = parts_of(layout, given_events, partitions)

    for part in parts:
        for key in filter(None, part.keys):
            assert part.partition == DefaultPartitioner()(key, everywhere, everywhere)


@given(given_events=events)
def test_the_order_of_one_person_is_kept(given_events: list[BatchEvent]) -> None:
    layout = Layout("t", "user", 5000)
    parts = parts_of(layout, given_events, 4)

    for user in ("ada", "bob", "cy"):
        placed = [event for part in parts for event in part.events if event.user == user]
        assert placed == [event for event in given_events if event.user == user]


def test_a_topic_holds_only_what_kafka_allows() -> None:
    layout = Layout("a.{account}.{stream}", "user", 5000)

    assert layout.topics([make_event(1, account="Über/Co")]) == {"a._ber_Co.access_requests"}


def part_of(*given_events: BatchEvent, stamp: Stamp = Stamp.EVENT) -> Part:
    return Part("t", 0, list(given_events), [None] * len(given_events), 1000, stamp)


PAST = make_event(1)
FUTURE = make_event(1)._replace(time_us=NOW_US + 1)
BEFORE_1970 = make_event(2)._replace(time_us=-5_000_000)


@pytest.mark.parametrize(
    ("stamp", "event", "own"),
    [
        (Stamp.EVENT, PAST, True),
        (Stamp.EVENT, FUTURE, True),
        (Stamp.EVENT, BEFORE_1970, False),
        (Stamp.FUTURE_AS_NOW, PAST, True),
        (Stamp.FUTURE_AS_NOW, FUTURE, False),
        (Stamp.NOW, PAST, False),
    ],
)
def test_a_time_that_is_not_the_events_own_leaves_that_in_a_header(
    stamp: Stamp, event: BatchEvent, *, own: bool
) -> None:
    [(time_ms, _, value, headers)] = Records("ocsf", "application/json").of(
        part_of(event, stamp=stamp), NOW_US
    )

    assert value == event.body
    assert time_ms == (event.time_us if own else NOW_US) // 1000
    assert ("event_time" in dict(headers)) is not own


def test_a_refused_time_first_blames_the_future_then_all() -> None:
    verdicts = []
    part = part_of(PAST, FUTURE)
    for _ in range(3):
        verdict = judge(part, kafka.InvalidTimestampError(), NOW_US)
        verdicts.append(verdict)
        if isinstance(verdict, list):
            [part] = verdict

    assert [type(verdict) for verdict in verdicts] == [list, list, TransientError]
    assert part.stamp is Stamp.NOW


def test_a_refused_time_in_the_past_is_sent_as_now_at_once() -> None:
    verdict = judge(part_of(PAST), kafka.InvalidTimestampError(), NOW_US)

    assert isinstance(verdict, list)
    assert [part.stamp for part in verdict] == [Stamp.NOW]


@given(st.integers(1, 40), st.sets(st.integers(0, 39)))
def test_halving_finds_exactly_the_records_that_a_broker_refuses(
    size: int, guilty: set[int]
) -> None:
    parts = [part_of(*(make_event(n) for n in range(size)))]
    kept, rejected = set[int](), set[int]()

    while parts:
        part = parts.pop()
        offsets = {event.offset for event in part.events}
        if not offsets & guilty:
            kept |= offsets
            continue
        verdict = judge(part, kafka.MessageSizeTooLargeError(), NOW_US)
        if isinstance(verdict, Rejection):
            rejected.add(verdict.offset)
            assert "bytes are more than the topic takes" in verdict.reason
        else:
            assert isinstance(verdict, list)
            parts += verdict

    assert rejected == guilty & set(range(size))
    assert kept == set(range(size)) - guilty


def test_a_broken_sequence_is_not_sent_again_for_ever() -> None:
    part, sent = part_of(PAST), 0
    while isinstance(verdict := judge(part, kafka.OutOfOrderSequenceNumber(), NOW_US), list):
        [part] = verdict
        sent += 1

    assert sent == 20
    assert type(verdict) is TransientError


@pytest.mark.parametrize(
    "kind",
    [
        kafka.UnknownTopicOrPartitionError,
        kafka.TopicAuthorizationFailedError,
        kafka.ClusterAuthorizationFailedError,
        kafka.ProducerFenced,
        kafka.SaslAuthenticationFailed,
        kafka.UnsupportedSaslMechanismError,
    ],
)
def test_what_only_a_person_can_mend_says_how(kind: type[Exception]) -> None:
    error = explain(kind(), "events")

    assert isinstance(error, NeedsOperatorError)
    assert error.hint
    assert "(events)" in str(error)


@pytest.mark.parametrize(
    "error", [kafka.NotEnoughReplicasError(), kafka.NodeNotReadyError(), TimeoutError(), OSError()]
)
def test_everything_else_is_an_outage(error: Exception) -> None:
    assert type(explain(error)) is TransientError


def test_events_without_a_key_take_turns_in_whole_batches() -> None:
    layout, rng = Layout("t", "none", 100_000), Random(1)
    batches = [[make_event(rng.randrange(99)) for _ in range(5)] for _ in range(6)]

    places = [[part.partition for part in parts_of(layout, batch, 3)] for batch in batches]

    assert [len(found) for found in places] == [1] * 6
    assert {partition for [partition] in places} == {0, 1, 2}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"topic": "t.{user}"}, "no such field: {user}"),
        ({"topic": "t.{stream"}, "unbalanced braces"),
        ({"bootstrap_servers": []}, "at least 1"),
        ({"transactional_id": "x", "idempotent": False}, "needs idempotent"),
        ({"sasl": {"mechanism": "PLAIN", "username": "u"}}, "PLAIN needs password"),
        ({"sasl": {"mechanism": "OAUTHBEARER"}}, "token_url and client_id and client_secret"),
        ({"tls": {"server_name": "x"}}, "does not fit Kafka"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        KafkaSink.Config.model_validate({"bootstrap_servers": ["a:9092"], **settings})


def test_brokers_can_be_given_as_one_text() -> None:
    config = KafkaSink.Config.model_validate({"bootstrap_servers": "a:9092, b:9092"})

    assert config.bootstrap_servers == ["a:9092", "b:9092"]


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError(111, "Connection refused"), TimeoutError()]
)
def test_brokers_that_cannot_be_reached_say_what_to_look_at(error: OSError) -> None:
    assert "bootstrap_servers" in explain(error).hint
