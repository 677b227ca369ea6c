"""Columns of records are the records."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import Record
from forwarder.core.source_contract import Records

values = st.none() | st.integers(0, 9) | st.text(max_size=4) | st.lists(st.just("},{"), max_size=2)
a_record = st.builds(
    Record,
    st.dictionaries(st.text(max_size=3), values, max_size=3).map(orjson.dumps),
    st.none() | st.integers(0, 9),
    st.binary(min_size=2, max_size=2),
    st.frozensets(st.sampled_from("abc")),
)
some = st.lists(a_record, max_size=8)


@given(some)
def test_columns_hold_what_the_records_held(records: list[Record]) -> None:
    columns = Records.of(records)

    assert records == list(columns)
    assert records[1:3] == columns[1:3]
    assert [orjson.loads(record.row) for record in records] == orjson.loads(columns.text)


@given(some, st.data())
def test_a_part_holds_the_records_at_its_indices(
    records: list[Record], data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.booleans(), min_size=len(records), max_size=len(records)))
    indices = [index for index, taken in enumerate(chosen) if taken]

    part = Records.of(records).part(indices)

    assert [records[index] for index in indices] == list(part)
    assert [record.row for record in part] == [orjson.dumps(row) for row in orjson.loads(part.text)]


@given(some, st.integers(0, 8), st.integers(0, 8))
def test_a_run_of_records_is_a_part(records: list[Record], start: int, end: int) -> None:
    indices = range(len(records))[start:end]

    part = Records.of(records).part(indices)

    assert records[start:end] == list(part)
    assert [orjson.loads(record.row) for record in part] == orjson.loads(part.text)


def test_columns_of_columns_are_themselves() -> None:
    columns = Records.of([Record(b"{}", None, b"1", frozenset())])

    assert columns is Records.of(columns)
    assert columns is columns.part([0])
