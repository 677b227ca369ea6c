"""A login is in both logs, in one of them, or nobody can say."""

from __future__ import annotations

from random import Random
from time import process_time

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import Window
from forwarder.sources.logpush.comparing import (
    APART_US,
    Comparing,
    Comparison,
    Seen,
    login_polled,
    login_pushed,
)

SECOND_US = 1_000_000
WINDOW = Window(1000 * SECOND_US, 2000 * SECOND_US)
AFTER_US = WINDOW.until_us + APART_US
MIDDLE_US = 1500 * SECOND_US


def compared(polled: list[Seen], pushed: list[Seen]) -> Comparison:
    comparing = Comparing(WINDOW)
    comparing.add(polled, pushed, AFTER_US)
    return comparing.result()


def test_a_login_is_known_by_its_ray_and_its_time_which_one_log_may_round() -> None:
    polled = login_polled({"ray_id": "A1B2", "user_email": "a@example.com"}, MIDDLE_US)
    pushed = login_pushed({"RayID": "a1b2", "Email": "a@example.com"}, MIDDLE_US + 900_000)
    shouted = login_pushed({"RayID": "A1B2", "Email": "A@EXAMPLE.COM"}, MIDDLE_US + 900_000)

    assert Comparison(1, 1, 1, 0, 0, 0, None, None) == compared([polled], [pushed])
    assert pushed == shouted


def test_one_ray_may_have_several_logins() -> None:
    login = Seen("a", "user", MIDDLE_US)
    again = Seen("a", "user", MIDDLE_US + 60 * SECOND_US)

    assert Comparison(2, 1, 1, 1, 0, 0, MIDDLE_US, MIDDLE_US) == compared([login] * 2, [login])
    assert Comparison(2, 1, 1, 1, 0, 0, again.time_us, again.time_us) == compared(
        [login, again], [login]
    )


def test_a_login_without_a_ray_is_known_by_its_user() -> None:
    polled = login_polled({"user_email": "A@example.com"}, MIDDLE_US)
    pushed = [login_pushed({"Email": f"{name}@example.com"}, MIDDLE_US) for name in "ab"]

    assert Comparison(1, 2, 1, 0, 1, 0, None, None) == compared([polled], pushed)


def test_logins_of_a_job_without_rays_are_known_by_their_user() -> None:
    def both(number: int, user: str = "a@example.com") -> tuple[Seen, Seen]:
        row = {"ray_id": f"{number:016x}", "user_email": user}
        polled = login_polled(row, MIDDLE_US + number * SECOND_US)
        return polled, login_pushed({"Email": user.upper()}, polled.time_us + 900_000)

    polled, pushed = (list(logins) for logins in zip(*map(both, range(10)), strict=True))
    alone = [both(3, "b@example.com")[1]._replace(user="c@example.com")]
    with_rays = [one._replace(ray=f"f{number}") for number, one in enumerate(pushed)]

    assert Comparison(10, 11, 10, 0, 1, 0, None, None) == compared(polled, pushed + alone)
    assert 10 == compared(pushed, polled).both
    assert 0 == compared(polled, with_rays).both


def test_many_logins_of_one_user_without_a_ray_take_no_time() -> None:
    polled = [Seen("", "a", MIDDLE_US + number) for number in range(20_000)]
    pushed = [Seen("", "a", MIDDLE_US - 10 * SECOND_US + number) for number in range(20_000)]

    started = process_time()
    found = compared(polled, pushed)

    assert (0, 20_000, 20_000) == (found.both, found.not_pushed, found.not_polled)
    # Each with each would take minutes.
    assert process_time() - started < 5


def test_at_the_ends_of_the_window_a_partner_may_lie_outside() -> None:
    first, last = Seen("a", "user", WINDOW.since_us), Seen("b", "user", WINDOW.until_us)
    around = [
        Seen("a", "user", first.time_us - 1),
        Seen("b", "user", last.time_us + 1),
        Seen("c", "user", last.time_us),
    ]

    assert Comparison(2, 1, 2, 0, 0, 0, None, None) == compared([first, last], around)


def test_what_the_journal_does_not_know_any_more_is_neither() -> None:
    comparing = Comparing(WINDOW)
    outside = (WINDOW.since_us - 1, WINDOW.until_us + 1)
    comparing.forget(Seen("a", "user", time_us) for time_us in (WINDOW.since_us, *outside))
    comparing.add([Seen("b", "user", MIDDLE_US)], [Seen("b", "user", MIDDLE_US)], AFTER_US)

    assert Comparison(2, 1, 1, 0, 0, 1, None, None) == comparing.result()


logins = st.lists(
    st.builds(
        Seen,
        st.sampled_from(["a", "b", "c", ""]),
        st.just("user"),
        st.integers(1_000_000_000, 2_000_000_000),
    )
)


@given(shared=logins, only_polled=logins, seed=st.integers(0, 99), cut_us=st.integers(0, 2**31))
def test_it_does_not_matter_where_the_reading_is_cut(
    shared: list[Seen], only_polled: list[Seen], seed: int, cut_us: int
) -> None:
    random = Random(seed)
    polled = [*shared, *only_polled]
    pushed = [one._replace(time_us=one.time_us + random.randint(0, SECOND_US)) for one in shared]
    whole = compared(polled, pushed)
    cut = Comparing(WINDOW)
    cut.add(
        [one for one in polled if one.time_us <= cut_us],
        [one for one in pushed if one.time_us <= cut_us],
        cut_us,
    )
    cut.add(
        [one for one in polled if one.time_us > cut_us],
        [one for one in pushed if one.time_us > cut_us],
        AFTER_US,
    )
    found = cut.result()

    assert len(polled) == whole.polled == whole.both + whole.not_pushed
    assert (whole.polled, whole.pushed) == (found.polled, found.pushed)
    # Of several logins of one ray within seconds, another may have found the partner.
    assert abs(whole.both - found.both) <= len(only_polled)
