"""Each Sigma rule fires on what it must, and on nothing else, in every format it has fields of."""

from __future__ import annotations

import pytest

from tests.content.engine import STORES, alerts
from tests.content.golden import cases
from tests.content.sigma_rules import ALERTS, PIPELINES

NO_FIRST_TIME = {"first_login_from_country", "first_login_of_service_token"}
"""Detections that Sigma has no words for."""
CASES = cases()


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_rule_fires_on_what_it_must_and_is_silent_about_the_rest(pipeline: str) -> None:
    wrong = []
    for name in ALERTS:
        case = CASES[name]
        fired = alerts(name, pipeline, case.match + case.silent)
        expected = [True] * len(case.match) + [False] * len(case.silent)
        for example, got, wanted in zip(case.match + case.silent, fired, expected, strict=True):
            if got != wanted:
                wrong.append((name, example.name, got))

    assert [] == wrong


def test_each_rule_has_events_that_match_and_events_that_do_not() -> None:
    without = [name for name, case in CASES.items() if not case.match or len(case.silent) < 2]

    assert [] == without
    assert set(CASES) - NO_FIRST_TIME == set(ALERTS)
    assert set(STORES) == set(PIPELINES)
