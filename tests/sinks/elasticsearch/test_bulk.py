"""Bulk bodies and the meaning of their answers."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import BatchEvent, Rejection, SinkContext, WriteResult
from forwarder.core.errors import ForwarderError, NeedsOperatorError, TransientError
from forwarder.core.schema import Origin
from forwarder.formats.ecs import EcsConfig, EcsFormat
from forwarder.sinks.elasticsearch import ElasticsearchConfig
from forwarder.sinks.elasticsearch.bulk import Bulk, judge, makes_data_stream, target_name
from forwarder.testing.fake_sinks import make_event, sink_context
from forwarder.testing.samples import ACCOUNT, ACCOUNT_ID, ROWS, event_of

WHERE = "https://es:9200"


def config(**more: Any) -> ElasticsearchConfig:
    return ElasticsearchConfig.model_validate({"url": WHERE, **more})


def encode(
    event: BatchEvent, context: SinkContext | None = None, **more: Any
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the action and the document of one event."""
    bulk = Bulk(config(**more).target, context or sink_context())
    action, document = bulk.encode([event]).splitlines()
    return orjson.loads(action)["create"], orjson.loads(document)


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        ("access_requests", "logs-cloudflare_access.audit-default"),
        ("scim_updates", "logs-cloudflare_access.scim-default"),
        ("forwarder", "logs-cloudflare_access.forwarder-default"),
        ("another", "logs-cloudflare_access.another-default"),
    ],
)
def test_each_log_has_its_data_stream_and_each_event_its_own_id(stream: str, name: str) -> None:
    event = make_event(0, stream=stream)

    assert encode(event)[0] == {"_index": name, "_id": event.id}


@pytest.mark.parametrize("stream", [*ROWS, "logpush_access_requests", "logpush_gateway_dns"])
def test_an_event_s_data_set_is_that_of_its_data_stream(stream: str) -> None:
    """Elasticsearch refuses an event that names another one."""
    origin = Origin(ACCOUNT_ID, ACCOUNT, stream, 0)
    events = [event_of(known, row, origin) for known, rows in ROWS.items() for row in rows.values()]
    style = EcsFormat(EcsConfig())

    found = {orjson.loads(style.render(event))["data_stream"]["dataset"] for event in events}

    assert {target_name("logs-{log}-x", stream, "")} == {
        f"logs-{name.removeprefix('cloudflare_access.')}-x" for name in found
    }


def test_names_follow_the_settings() -> None:
    event = make_event(0, account="Acme")

    def name(**more: Any) -> str:
        return encode(event, **more)[0]["_index"]

    assert name(namespace="{account}") == "logs-cloudflare_access.audit-acme"
    assert name(dataset="access.{stream}") == "logs-access.access_requests-default"
    assert name(index="siem-{account}-{log}") == "siem-acme-audit"


def test_what_has_no_time_of_its_own_gets_the_events_time() -> None:
    stamp = {"@timestamp": "2026-01-01T00:00:00.123456Z"}
    text = sink_context(media_type="text/plain")

    assert encode(make_event(0, body=b'{"a":1}'))[1] == stamp | {"a": 1}
    assert encode(make_event(0, body=b"{}"))[1] == stamp
    assert encode(make_event(0, body=b"CEF:0|x"), text)[1] == stamp | {"message": "CEF:0|x"}


def test_a_time_of_its_own_is_kept_and_one_further_down_is_not_taken_for_it() -> None:
    own = b'{"@timestamp":"2020-01-01T00:00:00Z"}'
    nested = b'{"request":{"@timestamp":"x"}}'

    assert encode(make_event(0, body=own))[1] == orjson.loads(own)
    document = encode(make_event(0, body=nested))[1]
    assert document["@timestamp"] == "2026-01-01T00:00:00.123456Z"
    assert document["request"] == {"@timestamp": "x"}


def items(*found: dict[str, Any], errors: bool = True) -> bytes:
    return orjson.dumps({"errors": errors, "items": [{"create": item} for item in found]})


def failed(status: int, kind: str, reason: str = "") -> dict[str, Any]:
    return {"status": status, "error": {"type": kind, "reason": reason}}


CREATED = {"status": 201}


def test_an_answer_without_errors_accepts_all() -> None:
    assert judge(items(CREATED, CREATED, errors=False), [1, 2], WHERE) == WriteResult()


def test_a_conflict_is_an_event_that_is_already_there() -> None:
    conflict = failed(409, "version_conflict_engine_exception")

    assert judge(items(conflict, CREATED), [1, 2], WHERE) == WriteResult()


def test_what_is_busy_or_broken_is_put_off_and_what_does_not_fit_is_rejected() -> None:
    answer = items(
        CREATED,
        failed(429, "es_rejected_execution_exception"),
        failed(503, "unavailable_shards_exception"),
        failed(400, "illegal_argument_exception"),
        failed(409, "something_else"),
    )
    result = judge(answer, [10, 20, 30, 40, 50], WHERE)

    assert result.deferred == {20, 30, 50}
    assert result.rejected == (Rejection(40, "illegal_argument_exception"),)


def test_a_reason_names_the_field_and_never_the_value() -> None:
    reason = (
        "[1:9] failed to parse field [source.ip] of type [ip] in document with id 'x'. "
        "Preview of field's value: 'hunter2'"
    )
    result = judge(items(failed(400, "document_parsing_exception", reason)), [1], WHERE)

    assert result.rejected[0].reason == "document_parsing_exception: field source.ip is no ip"


REASONS = {
    "pipeline with id [access] does not exist": "pipeline with id [access] does not exist",
    "Limit of total fields [1000] has been exceeded while adding new fields [1]": (
        "Limit of total fields [1000] has been exceeded"
    ),
    "object mapping for [user] tried to parse field [user] as object, but found 'hunter2'": (
        "object mapping for [user] tried to parse field [user] as object"
    ),
    "mapper [user.id] cannot be changed from type [long] to [keyword]": (
        "mapper [user.id] cannot be changed from type [long] to [keyword]"
    ),
    "[1:4] mapping set to strict, dynamic introduction of [x] within [_doc] is not allowed": (
        "dynamic introduction of [x] within [_doc] is not allowed"
    ),
    'Document contains at least one immense term in field="message" (whose UTF8 encoding is longer '
    "than the max length 32766), the prefix of the first immense term is: '[104, 117, 110]'": (
        'immense term in field="message"'
    ),
    "data stream timestamp field [@timestamp] is missing": (
        "data stream timestamp field [@timestamp] is missing"
    ),
    "something new about hunter2": None,
}


@pytest.mark.parametrize("where", ["reason", "caused_by"])
def test_reasons_are_told_apart_by_the_part_that_holds_no_value(where: str) -> None:
    found = {}
    for text in REASONS:
        item = failed(400, "illegal_argument_exception")
        item["error"][where] = text if where == "reason" else {"reason": text}
        (rejection,) = judge(items(item), [1], WHERE).rejected
        kind, _, reason = rejection.reason.partition(": ")
        assert kind == "illegal_argument_exception"
        found[text] = reason or None

    assert found == REASONS
    assert "hunter2" not in "".join(filter(None, found.values()))


def test_a_fault_for_a_person_says_what_is_missing() -> None:
    reason = (
        "action [indices:data/write/bulk[s]] is unauthorized for API key id [x] of user [ada] on "
        "indices [logs-a], this action is granted by the index privileges [create_doc,create]"
    )
    with pytest.raises(NeedsOperatorError, match=r"privileges \[create_doc,create\]") as caught:
        judge(items(failed(403, "security_exception", reason)), [1], WHERE)

    assert "ada" not in str(caught.value)


def test_the_cause_is_named_where_the_field_is_not() -> None:
    found = failed(400, "mapper_parsing_exception", "failed to parse")
    found["error"]["caused_by"] = {"type": "illegal_argument_exception"}
    result = judge(items(found), [1], WHERE)

    assert result.rejected[0].reason == "mapper_parsing_exception: illegal_argument_exception"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, "security_exception"),
        (403, "cluster_block_exception"),
        (429, "cluster_block_exception"),
        (404, "index_not_found_exception"),
        (400, "invalid_index_name_exception"),
        (400, "validation_exception"),
        (403, "brand_new_exception"),
    ],
)
def test_what_every_event_would_meet_is_a_fault_for_a_person(status: int, kind: str) -> None:
    with pytest.raises(NeedsOperatorError) as caught:
        judge(items(failed(status, kind), failed(status, kind)), [1, 2], WHERE)

    assert caught.value.hint


def test_what_was_taken_beside_such_a_fault_is_delivered() -> None:
    """So that a data stream without permission does not make the others' events come again."""
    answer = items(CREATED, failed(403, "security_exception"), CREATED)

    assert judge(answer, [1, 2, 3], WHERE) == WriteResult(deferred=frozenset({2}))


def test_the_failure_store_has_taken_the_event_and_is_noted() -> None:
    used = {"status": 201, "failure_store": "used"}
    result = judge(items(CREATED, used, used, errors=False), [1, 2, 3], WHERE)

    assert not result.rejected
    assert result.notes == (
        "failure_store: 2 events did not fit the mapping and are in the failure store",
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"{}",
        b"[]",
        b'{"errors":false,"items":[]}',
        b'{"errors":false,"items":[{"create":{"status":201}}]}',
        b'{"errors":true,"items":[{},{}]}',
        b'{"errors":true,"items":[{"create":{}},{"create":{}}]}',
        b'{"errors":true,"items":[1,2]}',
        b'{"errors":null,"items":[{"create":{"status":400}},{"create":{"status":null}}]}',
        b'{"errors":true,"items":[{"create":{"status":true}},{"create":{"status":201}}]}',
        b'{"errors":true,"items":[{"create":{"status":-1}},{"create":{"status":201}}]}',
    ],
)
def test_an_answer_that_is_none_is_an_outage(answer: bytes) -> None:
    with pytest.raises(TransientError) as caught:
        judge(answer, [1, 2], WHERE)

    assert not isinstance(caught.value, NeedsOperatorError)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([200, 201, 400, 403, 404, 409, 413, 422, 429, 500, 503]),
            st.sampled_from(["", "version_conflict_engine_exception", "mapper_parsing_exception"]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_each_event_is_accepted_rejected_or_put_off_and_only_once(
    statuses: list[tuple[int, str]],
) -> None:
    offsets = [7 * index for index in range(len(statuses))]
    answer = items(*(CREATED if s < 300 else failed(s, kind) for s, kind in statuses))
    try:
        result = judge(answer, offsets, WHERE)
    except ForwarderError:
        assert any(status in (403, 404) for status, _ in statuses)
        assert not any(s < 300 or (s == 409 and "conflict" in kind) for s, kind in statuses)
        return
    rejected = {rejection.offset for rejection in result.rejected}
    assert rejected | result.deferred <= set(offsets)
    assert not rejected & result.deferred
    for (status, kind), offset in zip(statuses, offsets, strict=True):
        there = status < 300 or (status == 409 and "conflict" in kind)
        assert there == (offset not in rejected | result.deferred)


def template(pattern: str, priority: int | None, **more: Any) -> dict[str, Any]:
    return {"index_template": {"index_patterns": [pattern], "priority": priority, **more}}


def test_the_template_with_the_highest_priority_decides() -> None:
    name = config().known_targets[0]

    def verdict(*templates: dict[str, Any]) -> bool:
        return makes_data_stream(orjson.dumps({"index_templates": templates}), name)

    assert not verdict()
    assert verdict(template("logs-*-*", 100, data_stream={}))
    assert not verdict(template("metrics-*-*", 100, data_stream={}))
    assert not verdict(template("logs-*-*", 100, data_stream={}), template("logs-*", 200))
    assert verdict(template("logs-*", None), template("logs-*-*", 1, data_stream={}))
    assert not makes_data_stream(b"<html>", name)


def test_what_the_settings_cannot_tell_is_not_looked_for() -> None:
    assert len(config().known_targets) == 3
    assert not config(namespace="{account}").known_targets
    assert not config(index="siem").known_targets
