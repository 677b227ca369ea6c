"""What stands in a template stays what it is, and fillings go where they belong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forwarder.formats.lines import EXTRA, ID, SEEN, TIME, line_writer

_constants = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["{0}", "{fillings}", "}}", "'", '"""', "\\", "\n", "%s", "__import__('os')", "\0"]
)
_fillings = st.tuples(*[_constants] * 3)
_between = st.lists(st.sampled_from([0, 1, 2, ID, TIME, SEEN, EXTRA]), max_size=6)


@given(st.data(), _fillings, _between)
def test_constants_and_fillings_alternate(
    data: st.DataObject, fillings: tuple[str, ...], between: list[int | str]
) -> None:
    count = len(between) + 1
    constants = data.draw(st.lists(_constants, min_size=count, max_size=count))
    named = dict(enumerate(fillings)) | {ID: "i{d}", TIME: "17", SEEN: "18", EXTRA: '"a":1'}
    told = [named[what] for what in between]
    expected = constants[0] + "".join(map(str.__add__, told, constants[1:]))

    write = line_writer(constants, between)

    assert write(fillings, "i{d}", "17", "18", '"a":1') == expected
