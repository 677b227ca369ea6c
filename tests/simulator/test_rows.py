"""The row store agrees with a list that is searched from end to end."""

from __future__ import annotations

from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis import given

from forwarder.simulator.rows import RowStore

TIMES = st.integers(0, 6)
EDGES = st.none() | st.integers(-1, 7)


@dataclass
class NaiveStore:
    """(time, number) of everything visible, in the order of becoming visible."""

    rows: list[tuple[int, int]] = field(default_factory=list)

    def between(self, since: int | None, until: int | None, *, inclusive: bool) -> list[int]:
        def fits(time: int) -> bool:
            after = since is None or time > since or (inclusive and time == since)
            return after and (until is None or time <= until)

        return [number for time, number in sorted(self.rows, key=lambda r: r[0]) if fits(time)]


@given(
    st.lists(st.tuples(TIMES, st.none() | st.integers(1, 5), st.booleans()), max_size=30),
    EDGES,
    EDGES,
    st.booleans(),
    st.integers(0, 5),
)
def test_a_window_holds_the_visible_rows_within_it_in_the_order_of_time(
    added: list[tuple[int, int | None, bool]],
    since: int | None,
    until: int | None,
    inclusive: bool,  # noqa: FBT001 - drawn
    now: int,
) -> None:
    store, naive = RowStore(), NaiveStore()
    for number, (time, visible_at, _) in enumerate(added):
        store.add(b"{}", time, visible_at=visible_at)
        if visible_at is None:
            naive.rows.append((time, number))
    hidden = {number for number, (_, _, hide) in enumerate(added) if hide}
    for number in hidden:
        store.hide(number)
    store.reveal(now)
    late = sorted((at, n) for n, (_, at, _) in enumerate(added) if at is not None and at <= now)
    naive.rows.extend((added[number][0], number) for _, number in late)

    found = [store.at(place) for place in store.between(since, until, inclusive_since=inclusive)]

    expected = naive.between(since, until, inclusive=inclusive)
    assert found == [number for number in expected if number not in hidden]


@given(st.sampled_from([b"{}", b'{"a":1}', b"\xff"]))
def test_a_key_that_all_rows_gain_leaves_earlier_generations_readable(body: bytes) -> None:
    store = RowStore()
    number = store.add(body, 0)
    store.add_key("x", None)
    store.add_key("y", [1])

    grown = {
        b"{}": b'{"x":null,"y":[1]}',
        b'{"a":1}': b'{"a":1,"x":null,"y":[1]}',
        b"\xff": b"\xff",
    }

    assert store.served([number]) == [store.body(number)] == [grown[body]]
    assert store.body(number, 0) == body
    assert store.body(number, 1) == store.body(number).replace(b',"y":[1]', b"")
