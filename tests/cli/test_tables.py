"""Tables fit every terminal, and what others wrote stays text."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO

from hypothesis import given
from hypothesis import strategies as st

from forwarder.cli.terminal import laid_out, print_json

COLUMNS = ("scope", "detail")
ROWS = [("acme/access_requests", "an operator moved the cursor"), ("sink:hook", "full")]


def test_a_row_is_a_line_where_there_is_room() -> None:
    for width in (None, 50):
        assert list(laid_out(COLUMNS, ROWS, width)) == [
            "scope                 detail",
            "acme/access_requests  an operator moved the cursor",
            "sink:hook             full",
        ]


def test_a_row_is_a_block_on_a_narrow_terminal() -> None:
    assert list(laid_out(COLUMNS, ROWS, 49)) == [
        "scope   acme/access_requests",
        "detail  an operator moved the cursor",
        "",
        "scope   sink:hook",
        "detail  full",
    ]


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1), st.none() | st.integers(0, 200))
def test_nothing_in_a_cell_steers_the_terminal_or_makes_a_line(
    rows: list[tuple[str, str]], width: int | None
) -> None:
    lines = list(laid_out(COLUMNS, rows, width))

    assert all(line.isprintable() for line in lines)
    assert len(lines) in {len(rows) + 1, 3 * len(rows) - 1}


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_steers_no_terminal_and_stays_the_same_data(value: object) -> None:
    with redirect_stdout(StringIO()) as printed:
        print_json(value)
        print_json(value, indented=False)

    text = printed.getvalue()
    assert all(sign.isprintable() or sign == "\n" for sign in text)
    *indented, line = text.splitlines()
    assert json.loads("\n".join(indented)) == json.loads(line) == value
