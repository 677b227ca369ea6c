"""Every answer of a collector means one thing for the batch."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ForwarderError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.sinks.splunk_hec.answers import (
    CODES,
    AcksDisabledError,
    ChannelRefusedError,
    Sent,
    Taken,
    judge,
    judge_acks,
    judge_health,
)

SENT = Sent(count=10, size=5000, where="https://splunk:8088")


def said(code: int, **more: object) -> bytes:
    return orjson.dumps({"text": "some text", "code": code, **more})


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, 1, NeedsOperatorError),
        (401, 2, NeedsOperatorError),
        (401, 3, NeedsOperatorError),
        (403, 4, NeedsOperatorError),
        (400, 5, BatchRefusedError),
        (400, 7, NeedsOperatorError),
        (500, 8, TransientError),
        (503, 9, TransientError),
        (400, 10, NeedsOperatorError),
        (400, 11, ChannelRefusedError),
        (400, 14, AcksDisabledError),
        (400, 16, NeedsOperatorError),
        (503, 18, TransientError),
        (503, 19, TransientError),
        (503, 20, TransientError),
        (400, 21, NeedsOperatorError),
        (400, 22, NeedsOperatorError),
        (503, 23, TransientError),
        (429, 26, TransientError),
        (429, 27, TransientError),
        (400, 28, NeedsOperatorError),
        (404, 404, NeedsOperatorError),
        (400, 99, BatchRefusedError),
        (503, 99, TransientError),
        (429, 99, TransientError),
        (503, 0, TransientError),
    ],
)
def test_what_a_code_asks_for(status: int, code: int, expected: type[ForwarderError]) -> None:
    with pytest.raises(ForwarderError) as caught:
        judge(status, said(code), SENT)

    assert type(caught.value) is expected
    assert "https://splunk:8088" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (413, b"too large", BatchTooLargeError),
        (415, b"<html>", NeedsOperatorError),
        (408, b"", TransientError),
        (502, b"<html>", TransientError),
        (504, b"<html>", TransientError),
        (302, b"", NeedsOperatorError),
        (200, b"<html>please log in</html>", TransientError),
        (200, b"", TransientError),
        (200, b"[]", TransientError),
        (200, b'{"code":"0"}', TransientError),
    ],
)
def test_what_somebody_in_between_answers(
    status: int, body: bytes, expected: type[ForwarderError]
) -> None:
    with pytest.raises(ForwarderError) as caught:
        judge(status, body, SENT)

    assert type(caught.value) is expected


def test_success_takes_all_and_may_give_a_number() -> None:
    assert judge(200, said(0), SENT) == Taken(10)
    assert judge(200, said(0, ackId=0), SENT) == Taken(10, ack_id=0)


def test_a_queue_that_fills_up_has_taken_all() -> None:
    assert judge(200, said(24, ackId=4), SENT) == Taken(10, ack_id=4, ease_off=True)
    assert judge(200, said(25), SENT) == Taken(10, ease_off=True, acks_fill=True)


@pytest.mark.parametrize("code", [6, 12, 13, 15])
def test_the_events_before_a_bad_one_are_taken(code: int) -> None:
    answer = said(code, **{"invalid-event-number": 3, "ackId": 8})

    assert judge(400, answer, SENT) == Taken(3, ack_id=8, poison=CODES[code].text)


@pytest.mark.parametrize(("status", "code"), [(503, 9), (503, 18), (500, 8), (429, 26)])
def test_a_busy_collector_that_names_an_event_has_taken_those_before_it(
    status: int, code: int
) -> None:
    answer = said(code, **{"invalid-event-number": 4})

    assert judge(status, answer, SENT, 7.0) == Taken(4, ease_off=True, retry_after=7.0)


def test_a_wrong_index_names_the_event_after_it() -> None:
    assert judge(400, said(7, **{"invalid-event-number": 4}), SENT) == Taken(3, ease_off=True)
    with pytest.raises(NeedsOperatorError):
        judge(400, said(7, **{"invalid-event-number": 1}), SENT)


def test_nothing_is_taken_before_a_bad_first_event() -> None:
    answer = said(6, **{"invalid-event-number": 0})

    assert judge(400, answer, SENT) == Taken(0, poison="invalid data format")


@pytest.mark.parametrize("number", [None, -1, 10, "3"])
def test_a_bad_event_that_is_not_named_refuses_the_batch(number: object) -> None:
    more = {} if number is None else {"invalid-event-number": number}

    with pytest.raises(BatchRefusedError):
        judge(400, said(6, **more), SENT)


def test_the_cloud_complains_about_event_0_when_all_was_too_much() -> None:
    answer = said(6, **{"invalid-event-number": 0})

    with pytest.raises(BatchTooLargeError):
        judge(400, answer, Sent(count=10, size=5_300_000, where="x"))


def test_what_the_collector_asks_to_wait_is_passed_on() -> None:
    with pytest.raises(TransientError) as caught:
        judge(503, said(9), SENT, retry_after=12.0)

    assert caught.value.retry_after == 12.0


def test_every_fault_for_a_person_says_what_to_do() -> None:
    for number in CODES:
        try:
            judge(400, said(number), SENT)
        except NeedsOperatorError as error:
            assert error.hint  # noqa: PT017 - codes that raise otherwise are no fault for a person
        except ForwarderError:
            continue


def test_acknowledgements_are_read_by_number() -> None:
    assert judge_acks(200, b'{"acks":{"0":true,"17":false}}', "x") == {0: True, 17: False}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, said(14), AcksDisabledError),
        (403, said(4), NeedsOperatorError),
        (200, b"<html>", TransientError),
        (200, said(0), TransientError),
        (400, said(6), TransientError),
        (503, b"", TransientError),
    ],
)
def test_a_question_for_acknowledgements_fails_as_an_outage_or_a_fault_for_a_person(
    status: int, body: bytes, expected: type[ForwarderError]
) -> None:
    with pytest.raises(ForwarderError) as caught:
        judge_acks(status, body, "x")

    assert type(caught.value) is expected


def test_health_is_good_or_an_outage() -> None:
    judge_health(200, said(17), "x")
    with pytest.raises(TransientError):
        judge_health(503, said(18), "x")
    with pytest.raises(TransientError):
        judge_health(400, b"", "x")


@given(st.integers(200, 599), st.binary(max_size=60), st.integers(0, 30), st.integers(-2, 12))
def test_no_answer_is_taken_for_more_than_was_sent(
    status: int, garbage: bytes, code: int, number: int
) -> None:
    for body in (garbage, said(code), said(code, **{"invalid-event-number": number})):
        try:
            taken = judge(status, body, SENT)
        except ForwarderError:
            continue
        assert 0 <= taken.accepted <= SENT.count
        assert taken.accepted < SENT.count or not taken.poison
        assert status < 300 or taken.poison or taken.accepted < SENT.count


def test_false_is_not_the_code_of_success() -> None:
    with pytest.raises(TransientError):
        judge(200, b'{"text":"Success","code":false}', SENT)


def test_only_numbers_are_acknowledged() -> None:
    odd = {"\u00b2": True, "\u0663": True, "9" * 5000: True, "-1": True, "4": True}

    assert judge_acks(200, orjson.dumps({"acks": odd}), "x") == {4: True}


def test_no_error_is_its_own_cause() -> None:
    """Whoever walks the causes of such an error never ends."""
    for body in (said(18), said(4), said(6), b""):
        with pytest.raises(TransientError) as caught:
            judge_health(503, body, "x")
        assert caught.value.__cause__ is not caught.value
