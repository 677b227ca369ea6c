"""The state machine finds what other collectors got wrong."""

from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, run_state_machine_as_test

from forwarder.core.log import StreamLog
from forwarder.journal.stream_log import SeenPages
from forwarder.sources.cloudflare_access.scim.updates import ScimUpdates
from forwarder.sources.cloudflare_access.walk import Advance
from tests.ingest import planted_bugs
from tests.ingest.scim_machine import ScimMachine
from tests.ingest.scripted_cloudflare import Manners
from tests.ingest.tailing_machine import TailingMachine

_FEW = settings(
    max_examples=200, stateful_step_count=25, phases=[Phase.generate], report_multiple_bugs=False
)


class Tame(TailingMachine):
    """An API that reads queries as documented, in pages of three."""

    manners = st.just(Manners(cap=3))


class NextSecond(Tame):
    walk: ClassVar[Advance] = staticmethod(planted_bugs.a_second_later)


class ShortPage(Tame):
    walk: ClassVar[Advance] = staticmethod(planted_bugs.a_short_page_is_the_last)


class TotalCount(Tame):
    walk: ClassVar[Advance] = staticmethod(planted_bugs.until_the_total)


class PageNumbers(Tame):
    """Its first window, the only one without an overlap to hide behind, shrinks as it is read."""

    reconciles: ClassVar[st.SearchStrategy[tuple[float, ...]]] = st.just(())
    walk: ClassVar[Advance] = staticmethod(planted_bugs.page_by_page)

    @initialize(data=st.data(), after=st.integers(0, 3))
    def begin(self, data: st.DataObject, after: int = 1) -> None:
        self.set_up(data)
        self.rows_expire_during_a_round(seconds=4000, after=after)


class Texts(Tame):
    walk: ClassVar[Advance] = staticmethod(planted_bugs.times_as_texts)


class OneBoundary(Tame):
    forgetful: ClassVar[type[SeenPages]] = planted_bugs.LastPageOnly


class RayId(Tame):
    disguise: ClassVar[Callable[[StreamLog], StreamLog]] = planted_bugs.RayIsIdentity


class TameProviders(ScimMachine):
    manners = st.just(Manners())


class Silence(TameProviders):
    reads: ClassVar[type[ScimUpdates]] = planted_bugs.PassesOverInSilence


class NoFarewell(TameProviders):
    """One of its providers was switched off, and the list was read since."""

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.set_up(data)
        self.a_provider_appears(history_s=0, rows=0)
        self.time_passes(seconds=700)
        self.a_provider_is_switched_off(number=0)
        self.time_passes(seconds=700)

    reads: ClassVar[type[ScimUpdates]] = planted_bugs.OnlyThoseListed


LOGIN_BUGS = [NextSecond, ShortPage, TotalCount, PageNumbers, Texts, OneBoundary, RayId]


@pytest.mark.parametrize("bug", [*LOGIN_BUGS, Silence, NoFarewell])
def test_a_planted_bug_is_found(bug: type[TailingMachine]) -> None:
    with pytest.raises(AssertionError, match="delivered"):
        run_state_machine_as_test(bug, settings=_FEW)


def test_without_a_bug_nothing_is_found() -> None:
    run_state_machine_as_test(Tame, settings=settings(_FEW, max_examples=10))
