"""Answers that orjson refuses or would change are read row by row, and no row is lost."""

import json
import time
from base64 import b64decode
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.errors import TransientError
from forwarder.core.identity import Identifier
from forwarder.core.malformed_rows import Repaired, at, repair, repair_row, rewritten
from forwarder.core.schema import MALFORMED_KEY, RAW_BYTES_KEY
from forwarder.simulator import unreadable_row

IDENTIFY = Identifier("a" * 32, "access_requests")
GOOD = {"ray_id": "8a1c5e2f00000003", "created_at": "2026-07-02T15:03:00Z", "n": 1, "x": [{}, "é"]}

DEEP = b"[" * 1500 + b"]" * 1500
DIGITS = "9" * 5000
BROKEN_VALUES = {
    "half a surrogate pair": (rb'"\ud800 lone"', "\ufffd lone"),
    "bytes that are not UTF-8": (b'"caf\xe9"', "caf\ufffd"),
    "a number beyond a double": (b"-1e400", "-1e400"),
    "NaN or Infinity": (b"NaN", "NaN"),
    " Infinity": (b"-Infinity", "-Infinity"),
    "an integer beyond 64 bits": (b"18446744073709551616", "18446744073709551616"),
    "beyond 64 bits": (b"-9223372036854775809", "-9223372036854775809"),
    "integer beyond 64 bits": (DIGITS.encode(), DIGITS),
    "nested too deeply": (DEEP, DEEP.decode()),
    "control characters": (b'"a\x01\nb"', "a\x01\nb"),
    "not JSON, kept": (rb'"\x41"', r'"\x41"'),
    "not JSON": (b"nil", "nil"),
    "not JSON, kept as text": (b"", ""),
}
"""A part of what is said about a value, the value as received, and as it is read."""

texts = st.text(max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(
    texts.filter(lambda name: not name.startswith("_forwarder")), values, max_size=4
)
clean_rows = objects.map(orjson.dumps)
pieces = st.sampled_from(
    [
        *(raw for raw, _ in BROKEN_VALUES.values()),
        b"\xff",
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
        b"\\",
    ]
) | st.binary(max_size=5)
damaged_rows = st.builds(
    lambda row, piece, place: row[: place % (len(row) + 1)] + piece + row[place % (len(row) + 1) :],
    clean_rows,
    pieces,
    st.integers(0, 10_000),
)
broken_rows = st.builds(
    lambda row, raw: b'{"broken":' + raw + b',"row":' + row + b"}",
    clean_rows,
    st.sampled_from([raw for raw, _ in BROKEN_VALUES.values()]),
)


def body_of(*rows: bytes) -> bytes:
    return b'{"success":true,"result":[' + b",".join(rows) + b'],"result_info":{"per_page":7}}'


def rows_of(repaired: Repaired) -> list[dict[str, Any]]:
    assert repaired.rows is not None
    return repaired.rows


@pytest.mark.parametrize(("why", "value"), BROKEN_VALUES.items(), ids=BROKEN_VALUES)
def test_a_row_keeps_all_that_can_be_read_of_it_and_its_bytes(
    why: str, value: tuple[bytes, str]
) -> None:
    raw, read = value
    row = orjson.dumps(GOOD)[:-1] + b',"bad":' + raw + b',"last":true}'

    (found,) = rows_of(repair(body_of(row)))

    assert b64decode(found.pop(RAW_BYTES_KEY)) == row
    assert why in found.pop(MALFORMED_KEY)
    assert found == {**GOOD, "bad": read, "last": True}


@pytest.mark.parametrize(("raw", "_"), BROKEN_VALUES.values(), ids=BROKEN_VALUES)
def test_its_neighbours_are_as_if_it_were_not_there(raw: bytes, _: str) -> None:
    repaired = repair(body_of(orjson.dumps(GOOD), b'{"bad":' + raw + b"}", orjson.dumps(GOOD)))

    first, bad, last = rows_of(repaired)
    assert first == GOOD == last
    assert MALFORMED_KEY in bad
    assert repaired.malformed == 1
    assert repaired.envelope["success"] is True
    assert repaired.envelope["result_info"] == {"per_page": 7}


@pytest.mark.parametrize("variant", ["lone_surrogate", "bad_utf8", "huge_number", "deep"])
def test_what_the_simulator_makes_unreadable_is_read(variant: str) -> None:
    (found,) = rows_of(repair(body_of(unreadable_row(variant, GOOD))))

    assert found.items() >= GOOD.items()


@pytest.mark.parametrize("element", [b"1", b'"text"', b"null", b"[{}]", b"{broken}", b"{} {}"])
def test_an_element_that_is_no_object_is_a_row_of_its_bytes_alone(element: bytes) -> None:
    (found,) = rows_of(repair(body_of(element)))

    assert found.keys() == {MALFORMED_KEY, RAW_BYTES_KEY}
    assert "not a JSON object" in found[MALFORMED_KEY]
    assert b64decode(found[RAW_BYTES_KEY]) == element


def test_a_name_that_cannot_be_read_is_cleaned_too() -> None:
    (found,) = rows_of(repair(body_of(b'{"caf\xe9":1}')))

    assert found["caf\ufffd"] == 1
    assert found[MALFORMED_KEY] == "bytes that are not UTF-8, replaced; not strictly JSON"


@pytest.mark.parametrize("row", [b'{"a":1,}', b'{"a":1,,"b":2}', b'\x0b{"a":1}', b'{"a":1\x0c}'])
def test_whatever_is_not_strictly_json_is_marked(row: bytes) -> None:
    found, clean = repair_row(row)

    assert "not strictly JSON" in found[MALFORMED_KEY]
    assert not clean


def test_a_byte_order_mark_and_white_space_around_the_answer_mean_nothing() -> None:
    repaired = repair(b"\xef\xbb\xbf\r\n" + body_of(b" {} ", b"\n{}") + b"\n")

    assert (rows_of(repaired), repaired.malformed) == ([{}, {}], 0)


def test_the_last_result_counts_as_in_any_json() -> None:
    body = b'{"result":[{"a":1}],"x":{"result":[3]},"success":true,"result" : [ {"b":\xff"c"} ] }'

    (found,) = rows_of(repair(body))
    assert "b" in found


@pytest.mark.parametrize("cut", [1, 30, 60, -3, -1])
def test_a_body_that_was_cut_short_is_a_passing_fault(cut: int) -> None:
    with pytest.raises(TransientError, match="cut short"):
        repair(body_of(b'{"bad":"\xff"}', orjson.dumps(GOOD))[:cut])


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{]", b'{"a":"}', b"{}}", b'{"a":[}'])
def test_what_is_no_envelope_gives_no_rows(body: bytes) -> None:
    with suppress(TransientError):
        assert repair(body).rows is None


def test_an_integer_within_64_bits_is_no_reason_to_be_slow() -> None:
    row = b'{"a":18446744073709551615,"b":"123456789012345678901","c":1234567890123456789.5}'

    assert repair_row(row) == (orjson.loads(row), True)


def test_a_long_integer_is_never_rounded() -> None:
    row = b'{"a":[1,123456789012345678901234]}'

    body = body_of(b" " + row)

    assert rewritten(orjson.loads(body), body) is None
    assert repair_row(row)[0]["a"] == [1, "123456789012345678901234"]


@pytest.mark.parametrize("depth", range(198, 260, 3))
def test_a_nested_row_can_be_wrapped_and_written_whatever_its_depth(depth: int) -> None:
    row = b'{"deep":' + b"[" * depth + b"]" * depth + b"}"
    body = body_of(row)

    (found,) = rows_of(repair(body))

    orjson.dumps({"unmapped": {"raw": [found]}})
    if rewritten(orjson.loads(body), body) is not None:
        assert MALFORMED_KEY not in found


@given(st.lists(clean_rows | broken_rows | values.map(orjson.dumps), max_size=5))
def test_no_row_of_a_valid_list_is_lost(rows: list[bytes]) -> None:
    found = rows_of(repair(body_of(*rows)))

    assert len(found) == len(rows)
    for row, raw in zip(found, rows, strict=True):
        if RAW_BYTES_KEY in row:
            assert b64decode(row[RAW_BYTES_KEY]) == raw


@given(st.lists(objects, max_size=5))
def test_clean_rows_are_as_the_fast_path_gives_them(rows: list[dict[str, Any]]) -> None:
    body = body_of(*map(orjson.dumps, rows))
    repaired = repair(b"\xef\xbb\xbf" + body)

    assert repaired.rows == orjson.loads(body)["result"]
    assert repaired.malformed == 0


@given(objects)
def test_escaped_and_spaced_rows_are_read_alike(row: dict[str, Any]) -> None:
    raw = json.dumps(row, ensure_ascii=True, indent=2).encode()

    assert repair_row(raw) == (orjson.loads(raw), True)


@given(st.lists(damaged_rows | broken_rows | clean_rows, max_size=5), st.binary(max_size=3))
def test_anything_at_all_gives_rows_or_a_passing_fault(rows: list[bytes], tail: bytes) -> None:
    body = body_of(*rows) + tail
    try:
        repaired = repair(body)
    except TransientError:
        return

    for row in repaired.rows or []:
        orjson.loads(orjson.dumps(row))
        IDENTIFY.identity(row)
    assert repair(bytes(body)) == repaired


@given(st.binary(max_size=60) | damaged_rows)
def test_the_same_bytes_give_the_same_row_alone_and_among_others(raw: bytes) -> None:
    row, clean = repair_row(raw)

    IDENTIFY.identity(row)
    assert repair_row(raw) == (row, clean)
    assert clean is (MALFORMED_KEY not in row)
    body = body_of(orjson.dumps(GOOD), raw)
    try:
        found = rows_of(repair(body))
    except TransientError:
        return
    if len(found) == 2 and RAW_BYTES_KEY in found[1] and b64decode(found[1][RAW_BYTES_KEY]) == raw:
        assert found[1] == row


@given(st.lists(objects, max_size=5), st.sampled_from([0, orjson.OPT_INDENT_2]))
def test_what_is_rewritten_is_what_was_read(rows: list[dict[str, Any]], spaces: int) -> None:
    body = orjson.dumps({"success": True, "result": rows}, option=spaces)

    assert rewritten(orjson.loads(body), body) == orjson.dumps(rows)


@pytest.mark.parametrize("before", [b"", b'"x":{"result":[{"a":1}]},'])
def test_a_rounded_row_is_noticed_wherever_result_stands(before: bytes) -> None:
    body = b"{" + before + b'"result":[{"a":123456789012345678901234}],"success":true}'

    assert rewritten(orjson.loads(body), body) is None


@pytest.mark.parametrize(
    "row",
    [
        b'{"a":1,"a":2}',
        b'{"a":{"b":"x","b":"y"}}',
        b'{"a":[{"b":"\\\\","b":"\\""}]}',
        rb'{"a":"<\u003c>","\u0061":2}',
        b'{ "a" : 1, "a" : 1 }',
    ],
)
def test_a_key_that_stands_twice_is_marked_and_the_row_kept_as_received(row: bytes) -> None:
    body = body_of(orjson.dumps(GOOD), row)
    assert rewritten(orjson.loads(body), body) is None

    first, found = rows_of(repair(body))

    assert first == GOOD
    assert found.items() >= orjson.loads(row).items()
    assert b64decode(found[RAW_BYTES_KEY]) == row
    assert "twice" in found[MALFORMED_KEY]


escapes = st.sampled_from(["\\", '"', "\\\\", '\\"', "a", "é", "<", "\n"])
tricky = st.lists(escapes, max_size=6).map("".join)


@given(st.lists(st.dictionaries(tricky, tricky | st.integers(-5, 5), max_size=4), max_size=4))
def test_however_texts_are_escaped_rows_without_twice_a_key_take_the_fast_way(
    rows: list[dict[str, Any]],
) -> None:
    escaped = json.dumps({"success": True, "result": rows}).replace("<", r"\u003c").encode()

    assert rewritten(orjson.loads(escaped), escaped) == orjson.dumps(rows)


def test_an_answer_of_too_many_values_is_not_parsed_at_once() -> None:
    row = b'{"a":"x","b":[' + b"[]," * 700_000 + b"[]]}"

    found, clean = repair_row(row)

    assert not clean
    assert found["a"] == "x"
    assert found["b"] == row[13:-1].decode()
    assert "too many values" in found[MALFORMED_KEY]


def test_a_text_of_nothing_but_digits_and_quotes_is_searched_in_linear_time() -> None:
    """These took seconds, in which nothing else could run."""
    began = time.thread_time()
    for filling in (b"1" * 2_000_000, b"1234567890123456789012 " * 100_000, rb"\"" * 1_000_000):
        repair_row(b'{"a":"' + filling + b'"}')

    assert time.thread_time() - began < 2.0


@pytest.mark.parametrize("value", [None, 5, [], {}, {"a": None}, {"a": {}}, {"a": []}, {"a": [7]}])
def test_where_an_answer_has_no_such_place_there_is_nothing(value: Any) -> None:
    assert at({"a": [{"b": 1}]}, ("a", 0, "b")) == 1
    assert at(value, ("a", 0, "b")) is None
