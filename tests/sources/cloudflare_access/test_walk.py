"""The walk alone, against servers that a few lines describe: complete, and it ends."""

from dataclasses import dataclass, field, replace
from hashlib import blake2b

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forwarder.core.contracts import Lost, Window
from forwarder.sources.cloudflare_access.walk import (
    SECOND_US,
    UNREADABLE,
    Seen,
    Step,
    advance,
    first_step,
)

WINDOW = Window(1000 * SECOND_US, 1060 * SECOND_US)
_MOST_REQUESTS = 2000
_STRAY = 10**6


def identity(number: int) -> bytes:
    """Return 16 bytes as those of a row are: a hash, of which sums say as much."""
    return blake2b(b"%d" % number, digest_size=16).digest()


@dataclass
class Server:
    """Rows by time; how it reads queries.

    The last ``timeless`` rows do not tell theirs. ``stray_us`` comes with every answer.
    """

    times_us: list[int]
    cap: int = 1000
    tells_cap: bool = True
    inclusive: bool = True
    ignores_page: bool = False
    newest_first: bool = False
    widens_s: int = 0
    timeless: int = 0
    stray_us: int | None = None
    expires: dict[int, int] = field(default_factory=dict)
    floor_us: int = 0
    requests: int = 0
    most: int = 0

    def ask(self, step: Step) -> tuple[Seen, list[int]]:
        self.requests += 1
        self.floor_us = max(self.floor_us, self.expires.get(self.requests, 0))
        low = step.since_us - self.widens_s * SECOND_US + (0 if self.inclusive else 1)
        rows = sorted((t, n) for n, t in enumerate(self.times_us) if t >= max(low, self.floor_us))
        if self.newest_first:
            rows.reverse()
        page = 1 if self.ignores_page else step.page
        found = rows[(page - 1) * self.cap : page * self.cap]
        if self.stray_us is not None:
            found[-1:] = [(self.stray_us, _STRAY)]
        identities = [identity(n) for _, n in found]
        self.most = max(self.most, len(found))
        told = self.cap if self.tells_cap else 1000
        timed = len(self.times_us) - self.timeless
        times = [t if n < timed or n == _STRAY else None for t, n in found]
        return Seen(times, identities, 1000, told, self.most), [n for _, n in found]


def walked(server: Server) -> tuple[set[int], list[Lost]]:
    """Walk to the end; return the numbers of the rows seen and what was given up."""
    step: Step | None = first_step(WINDOW)
    seen: set[int] = set()
    lost: list[Lost] = []
    while step is not None:
        assert server.requests < _MOST_REQUESTS, "the walk does not end"
        answer, numbers = server.ask(step)
        seen.update(numbers)
        step, given_up = advance(Step.from_json(step.to_json()) or step, WINDOW, answer)
        lost += [given_up] if given_up else []
    return seen, lost


def unrecorded(server: Server, seen: set[int], lost: list[Lost]) -> list[int]:
    """Return the times of rows that were neither seen nor given up."""
    unseen = [t for n, t in enumerate(server.times_us) if n not in seen]
    return [t for t in unseen if not any(gap.since_us <= t <= gap.until_us for gap in lost)]


times = st.lists(
    st.tuples(st.integers(1000, 1059), st.sampled_from([0, 0, 1, 500_000])).map(
        lambda at: at[0] * SECOND_US + at[1]
    ),
    max_size=60,
)
servers = st.builds(
    Server,
    times,
    cap=st.sampled_from([2, 3, 5, 1000]),
    inclusive=st.booleans(),
    ignores_page=st.booleans(),
    newest_first=st.booleans(),
    widens_s=st.sampled_from([0, 0, 20]),
    timeless=st.sampled_from([0, 0, 1, 2, 3]),
)


@given(servers)
def test_every_row_is_seen_or_its_instant_is_recorded(server: Server) -> None:
    seen, lost = walked(server)

    assert not unrecorded(server, seen, lost)


@given(servers, st.dictionaries(st.integers(1, 12), st.integers(1000, 1059)))
@example(Server([1000 * SECOND_US] * 2 + [1001 * SECOND_US], cap=2, timeless=3), {2: 1001})
def test_rows_that_expire_hide_no_others(server: Server, expires: dict[int, int]) -> None:
    tidy = replace(server, ignores_page=False, newest_first=False)
    tidy.expires = {request: second * SECOND_US for request, second in expires.items()}

    seen, lost = walked(tidy)

    left = {n for n, t in enumerate(tidy.times_us) if t >= tidy.floor_us}
    assert lost or left <= seen


answers = st.lists(
    st.lists(st.tuples(st.none() | st.integers(0, 2000), st.integers(0, 9)), max_size=30),
    min_size=1,
    max_size=6,
)


@given(answers, st.none() | st.integers(1, 40))
def test_a_walk_goes_forward_whatever_is_answered(
    script: list[list[tuple[int | None, int]]], per_page: int | None
) -> None:
    """Nonsense in a circle: any times in any order, pages that come again, false sizes.

    Each question is later than the one before in an order that has an end: time, then looks at
    page 1, then pages, then repeats, each of them bounded.
    """
    step: Step | None = first_step(WINDOW)
    for request in range(80):
        rows = script[request % len(script)]
        seconds = [None if t is None else t * SECOND_US for t, _ in rows]
        before = step
        if before is None:
            break
        step, _ = advance(
            before, WINDOW, Seen(seconds, [identity(n) for _, n in rows], 9, per_page, 30)
        )
        assert step is None or _rank(before) < _rank(step)


def _rank(step: Step) -> tuple[int, int, bool, int, int]:
    return (step.since_us, step.passes, step.onward_us is not None, step.page, step.repeats)


@given(servers, st.sampled_from([1, 2, 3, 19]))
def test_a_server_that_says_nothing_of_its_cuts_hides_no_row(server: Server, cap: int) -> None:
    silent = replace(server, cap=cap, tells_cap=False, ignores_page=False, newest_first=False)

    seen, lost = walked(silent)

    assert lost or len(seen) == len(silent.times_us)


def test_a_quiet_poll_takes_two_requests() -> None:
    server = Server([1030 * SECOND_US, 1050 * SECOND_US])

    assert ({0, 1}, []) == walked(server)
    assert 2 == server.requests


def test_an_empty_window_takes_one_request() -> None:
    server = Server([])

    walked(server)

    assert 1 == server.requests


def test_an_instant_beyond_a_page_of_a_server_without_pages_is_given_up_and_recorded() -> None:
    """An answer before it has shown the order, so that nothing else is in doubt."""
    seconds = [1010, 1020, *[1030] * 9, 1040]
    server = Server([second * SECOND_US for second in seconds], cap=5, ignores_page=True)

    seen, lost = walked(server)

    assert {0, 1, 11} <= seen
    assert [(UNREADABLE, 1030 * SECOND_US, 1031 * SECOND_US)] == [
        (gap.reason, gap.since_us, gap.until_us) for gap in lost
    ]


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_whole_page_of_one_second_shows_no_order(newest_first: bool) -> None:  # noqa: FBT001
    """Without pages, newest first, the rows before that second stay out of sight."""
    seconds = [1010, 1020, *[1050] * 3]
    times_us = [second * SECOND_US for second in (seconds if newest_first else seconds[2:])]
    server = Server(times_us, cap=3, ignores_page=True, newest_first=newest_first)

    seen, lost = walked(server)

    assert not unrecorded(server, seen, lost)
    assert not newest_first or (lost and len(seen) == 3)


def test_one_row_among_rows_without_a_time_shows_no_order() -> None:
    """Newest first, without pages, the timeless rows are the newest here."""
    seconds = [1000, 1000, 1010, 1040, 1055, 1059, 1059]
    server = Server([second * SECOND_US for second in seconds], cap=3, timeless=2)
    server.ignores_page = server.newest_first = True

    seen, lost = walked(server)

    assert {4, 5, 6} == seen
    assert not unrecorded(server, seen, lost)


def test_a_row_from_before_the_window_shows_no_order() -> None:
    seconds = [1010, 1020, *[1050] * 3]
    server = Server([second * SECOND_US for second in seconds], cap=3, stray_us=900 * SECOND_US)
    server.ignores_page = server.newest_first = True

    seen, lost = walked(server)

    assert not unrecorded(server, seen, lost)


def test_an_answer_as_large_as_another_one_was_cut_though_larger_ones_have_been() -> None:
    """A cap that comes down silently while the process runs."""
    seconds = [*range(1000, 1040), *[1050] * 50]
    server = Server([second * SECOND_US for second in seconds], cap=25, tells_cap=False, most=900)

    seen, lost = walked(server)

    assert not lost
    assert len(seconds) == len(seen)


def test_a_burst_of_one_second_alone_takes_two_requests() -> None:
    server = Server([1050 * SECOND_US] * 40, most=900)

    seen, _ = walked(server)

    assert 40 == len(seen)
    assert 2 == server.requests


@pytest.mark.parametrize(
    "kept", [None, 7, [], {}, {"since": 5}, {"since_us": "now"}, {"since_us": 1, "page": []}]
)
def test_a_position_that_cannot_be_read_is_none(kept: object) -> None:
    assert Step.from_json(kept) is None
