"""Only `success: true` with a list of rows counts; everything else says what to do."""

from email.utils import formatdate
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.errors import TransientError
from forwarder.core.schema import MALFORMED_KEY, RAW_BYTES_KEY
from forwarder.sources.cloudflare_access.answers import (
    ACCESS_REQUESTS,
    VERIFY_ACCOUNT_TOKEN,
    Answer,
    RequestRefusedError,
    Response,
    ThrottledError,
    read_object,
    read_rows,
    read_time_us,
    retry_after_seconds,
)

NOON = 1_790_000_000
NOON_US = NOON * 1_000_000
SECRET = "s3cret-e-mail@example.com"
REFUSED = {"success": False, "errors": [{"code": 10000, "message": SECRET}], "result": None}
HTML = f"<html>{SECRET}</html>".encode()


def response(body: Any = b"", status: int = 200, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, named, body if isinstance(body, bytes) else orjson.dumps(body))


def read(body: Any, status: int = 200, **headers: str) -> Answer:
    return read_rows(response(body, status, **headers), ACCESS_REQUESTS, NOON_US)


def failure(body: Any, status: int = 200, **headers: str) -> TransientError:
    with pytest.raises(TransientError) as caught:
        read(body, status, **headers)
    assert SECRET not in f"{caught.value}{caught.value.hint}"
    return caught.value


def test_rows_come_with_the_servers_clock_and_page_size() -> None:
    body = {"success": True, "result": [{"a": 1}], "result_info": {"per_page": 25, "count": 1}}

    answer = read(body, date=formatdate(NOON, usegmt=True), cf_ray="8a1c5e2f00000003-AMS")

    assert answer == Answer([{"a": 1}], NOON_US, 25, ray="8a1c5e2f00000003-AMS")


@pytest.mark.parametrize("info", [None, [], {}, {"per_page": "25"}, {"per_page": True}, 3])
@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Nov 2026 10:00:00 GMT"])
def test_what_the_server_does_not_say_is_none(info: Any, date: str) -> None:
    answer = read({"success": True, "result": [], "result_info": info}, date=date, cf_ray="<x>")

    assert answer == Answer([], None, None)


@pytest.mark.parametrize("errors", [None, [], [{}], "no", [{"code": "10000"}], [3], {"code": 1}])
def test_success_false_without_a_code_passes(errors: Any) -> None:
    error = failure({"success": False, "errors": errors, "result": []})

    assert type(error) is TransientError


@pytest.mark.parametrize("success", [None, 1, "true", False])
def test_only_true_is_success(success: Any) -> None:
    failure({"success": success, "result": [{"a": 1}]})


@pytest.mark.parametrize("result", [{}, "rows", 3])
def test_only_a_list_is_a_result_and_anything_else_says_what_to_do(result: Any) -> None:
    error = failure({"success": True, "result": result})

    assert "api_url" in error.hint
    failure({"success": True})


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("errors", [{}, {"errors": []}, {"errors": None}])
def test_null_without_errors_is_an_empty_list(errors: dict[str, Any], bom: bytes) -> None:
    body = {"success": True, "result": None, **errors}

    assert read(bom + orjson.dumps(body)).rows == []
    failure({**body, "success": False})
    failure({**body, "errors": [{"code": 7500}]})
    failure(body, 500)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"3", HTML, b'{"success":true,"result":[{'])
def test_what_is_no_envelope_passes(body: bytes) -> None:
    error = failure(body, cf_ray="8a1c5e2f00000003-AMS")

    assert type(error) is TransientError
    assert "HTTP 200" in str(error)
    assert "8a1c5e2f00000003-AMS" in str(error)
    assert error.hint


@pytest.mark.parametrize(
    "ray", [SECRET, "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFy", "8a1c", "\x1b[2J"]
)
def test_a_ray_that_is_none_of_cloudflares_is_not_shown(ray: str) -> None:
    """A proxy may reflect a token in any header."""
    assert ray not in str(failure(b"", cf_ray=ray))


@pytest.mark.parametrize("status", [500, 502, 520, 530])
def test_a_broken_service_passes_whatever_its_body(status: int) -> None:
    for body in (HTML, REFUSED, {"success": True, "result": [{"a": 1}]}):
        assert type(failure(body, status)) is TransientError


def test_rows_under_an_error_status_do_not_count() -> None:
    error = failure({"success": True, "result": [{"a": 1}]}, 403)

    assert isinstance(error, RequestRefusedError)


def test_codes_of_the_chain_decide_too() -> None:
    chained = {"code": 6003, "error_chain": [{"code": 6111, "message": SECRET}]}

    error = failure({"success": False, "errors": [chained]}, 400)

    assert isinstance(error, RequestRefusedError)
    assert error.codes == (6003, 6111)


def test_a_page_of_the_firewall_is_judged_by_its_status() -> None:
    denied = failure(HTML, 403)
    throttled = failure(HTML, 429, retry_after="12")

    assert isinstance(denied, RequestRefusedError)
    assert isinstance(throttled, ThrottledError)
    assert throttled.retry_after == 12.0


def test_a_retry_after_date_counts_from_the_servers_own_clock() -> None:
    later = formatdate(NOON + 90, usegmt=True)

    told = response(retry_after=later, date=formatdate(NOON, usegmt=True))
    untold = response(retry_after=later)

    assert retry_after_seconds(told, now_us=0) == 90.0
    assert retry_after_seconds(untold, now_us=NOON_US + 30_000_000) == 60.0


@pytest.mark.parametrize(
    "row", [b'"\\ud800"', b'"\xff"', b"1e400", b"NaN", b"9" * 30, b"[" * 2000 + b"]" * 2000]
)
def test_a_row_that_orjson_refuses_or_changes_takes_the_slow_path(row: bytes) -> None:
    body = b'{"success":true,"result":[{"a":1},{"a":' + row + b"},3]}"

    answer = read(body)

    assert (len(answer.rows), answer.malformed, answer.repaired) == (3, 2, True)
    assert answer.rows[0] == {"a": 1}
    assert all(MALFORMED_KEY in row for row in answer.rows[1:])


@pytest.mark.parametrize("element", [None, 1, "text", [], [{"a": 1}]])
def test_an_element_that_is_no_object_is_a_malformed_row(element: Any) -> None:
    answer = read({"success": True, "result": [{"a": 1}, element]})

    assert (len(answer.rows), answer.malformed) == (2, 1)
    assert answer.rows[1].keys() == {MALFORMED_KEY, RAW_BYTES_KEY}


def test_a_row_nested_deeper_than_can_be_written_again_takes_the_slow_path() -> None:
    body = b'{"success":true,"result":[{"a":' + b"[" * 400 + b"]" * 400 + b"}]}"

    assert read(body).malformed == 1


def test_a_byte_order_mark_is_repaired_without_a_malformed_row() -> None:
    answer = read(b"\xef\xbb\xbf" + orjson.dumps({"success": True, "result": [{"a": 1}]}))

    assert (answer.rows, answer.malformed, answer.repaired) == ([{"a": 1}], 0, True)


def test_a_refusal_that_orjson_refuses_is_still_a_refusal() -> None:
    body = b'{"success":false,"errors":[{"code":10000,"message":"\xff"}],"result":null}'

    assert isinstance(failure(body), RequestRefusedError)


def test_an_object_is_read_where_one_is_expected() -> None:
    body = {"success": True, "result": {"status": "active"}}

    assert read_object(response(body), VERIFY_ACCOUNT_TOKEN, NOON_US) == {"status": "active"}
    for other in ({**body, "result": []}, REFUSED, HTML):
        with pytest.raises(TransientError):
            read_object(response(other), VERIFY_ACCOUNT_TOKEN, NOON_US)


def test_any_answer_of_the_api_tells_the_time_but_one_that_throttles() -> None:
    date = formatdate(NOON, usegmt=True)

    def time_us(body: Any, status: int, **headers: str) -> int:
        return read_time_us(response(body, status, **headers), VERIFY_ACCOUNT_TOKEN, NOON_US)

    assert time_us(REFUSED, 403, date=date) == NOON_US
    assert time_us({"success": True, "result": {}}, 200, date=date) == NOON_US
    with pytest.raises(ThrottledError):
        time_us(REFUSED, 429, date=date)
    with pytest.raises(TransientError):
        time_us(HTML, 502, date=date)
    with pytest.raises(TransientError, match="does not say the time"):
        time_us(REFUSED, 403)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 20_000) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["success", "errors", "result", "code", "message", "error_chain", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(
    json_values.map(orjson.dumps) | st.binary(max_size=40),
    st.sampled_from([200, 204, 301, 400, 401, 403, 404, 418, 429, 500, 503]),
    st.dictionaries(st.sampled_from(["date", "retry-after", "cf-ray"]), st.text(max_size=30)),
)
def test_any_answer_gives_rows_or_an_error_of_ours(
    body: bytes, status: int, headers: dict[str, str]
) -> None:
    found = Response(status, headers, body)
    try:
        answer = read_rows(found, ACCESS_REQUESTS, NOON_US)
    except TransientError:
        return

    assert status < 300
    assert all(type(row) is dict for row in answer.rows)
