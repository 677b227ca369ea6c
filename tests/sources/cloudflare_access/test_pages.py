"""An answer that is written once as a whole gives the rows that writing each alone would give."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.identity import Identifier
from forwarder.sources.cloudflare_access.answers import ACCESS_REQUESTS, Response, read_rows
from forwarder.sources.cloudflare_access.logs import PageMaker

TIME_US = 1_790_000_000_000_000
ACCOUNT = "a" * 32
MAKER = PageMaker(ACCOUNT, "access_requests", "created_at")
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
rows = st.dictionaries(st.sampled_from('abcäöü,{}[]"\\') | st.text(max_size=3), values, max_size=5)
answers = st.lists(rows | st.just({"a": 1}), max_size=6)


def body_of(answer: list[dict[str, Any]]) -> bytes:
    return orjson.dumps({"success": True, "result": answer, "result_info": {}})


@given(answers)
def test_rows_are_kept_as_if_each_were_written_alone(given_rows: list[dict[str, Any]]) -> None:
    answer = read_rows(Response(200, {}, body_of(given_rows)), ACCESS_REQUESTS, TIME_US)

    records = MAKER.records(answer.rows, answer.text)

    assert orjson.dumps(given_rows) == answer.text
    assert [orjson.dumps(row) for row in given_rows] == [record.row for record in records]
    assert list(records) == list(MAKER.records(answer.rows))


@given(answers)
def test_every_record_has_the_keys_of_its_row(given_rows: list[dict[str, Any]]) -> None:
    records = MAKER.records(given_rows)

    assert [frozenset(row) for row in given_rows] == [record.keys for record in records]


@given(answers)
def test_identities_are_those_of_rows_read_one_by_one(given_rows: list[dict[str, Any]]) -> None:
    identify, copies = Identifier(ACCOUNT, "access_requests"), list[bytes]()
    for record, row in zip(MAKER.records(given_rows), given_rows, strict=True):
        text = orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
        assert identify.identity(row, copies.count(text)) == record.identity
        copies.append(text)


def test_rows_of_one_shape_share_their_keys() -> None:
    first, second = MAKER.records([{"a": 1, "b": 2}, {"a": 3, "b": 4}])

    assert first.keys is second.keys
