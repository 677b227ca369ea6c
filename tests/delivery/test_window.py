"""How many writes at once."""

from hypothesis import given
from hypothesis import strategies as st

from forwarder.delivery.window import FlightWindow


def _round(window: FlightWindow) -> int:
    """Let a full window of writes succeed."""
    for _ in range(window.size):
        window.succeeded(full=True)
    return window.size


def test_it_starts_with_one_write_and_doubles_with_each_round() -> None:
    window = FlightWindow(64)

    assert [1, 2, 4, 8, 16, 32, 64, 64] == [window.size, *(_round(window) for _ in range(7))]


def test_after_the_first_throttle_it_adds_one_with_each_round() -> None:
    window = FlightWindow(64)
    while window.size < 32:
        _round(window)
    window.throttled()

    assert window.size == 16
    assert 4 <= [_round(window) for _ in range(5)][-1] - 16 <= 5


def test_writes_that_were_under_way_together_throttle_once() -> None:
    window = FlightWindow(64)
    while window.size < 32:
        _round(window)

    assert [True] + 31 * [False] == [window.throttled() for _ in range(32)]
    assert window.size == 16
    assert window.throttled()


def test_after_an_outage_it_doubles_again() -> None:
    window = FlightWindow(64)
    while window.size < 32:
        _round(window)
    window.failed()

    assert [16, 32] == [window.size, _round(window)]


def test_a_window_that_is_not_used_up_does_not_grow() -> None:
    window = FlightWindow(64)
    window.succeeded(full=False)

    assert window.size == 1


@given(st.lists(st.sampled_from(["succeeded", "throttled", "failed"])), st.integers(1, 9))
def test_it_never_leaves_its_bounds(steps: list[str], most: int) -> None:
    window = FlightWindow(most)
    for step in steps:
        if step == "succeeded":
            window.succeeded(full=True)
        elif step == "throttled":
            window.throttled()
        else:
            window.failed()

        assert 1 <= window.size <= most
