"""Rules for Elastic and monitors for OpenSearch: as severe as the Sigma rules, as the pages say."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.generate.elastic.detections import DETECTIONS
from tests.content.sigma_rules import ALERTS, RULES

_GUIDES = Path(__file__).parents[2] / "docs" / "siem"


def test_a_detection_is_as_severe_as_its_sigma_rule() -> None:
    severities = {one.id: one.severity for one in DETECTIONS}
    expected = {name: RULES[name]["level"] for name in ALERTS if name in severities}

    assert len(expected) > 1
    assert expected == {name: severities[name] for name in expected}


@pytest.mark.parametrize("guide", ["elastic.md", "opensearch.md"])
def test_the_guide_lists_every_detection(guide: str) -> None:
    expected = [
        f"| {one.title} | {one.text} | {one.severity} | {one.every} min, {one.window} min "
        f"| {one.tuning} |"
        for one in DETECTIONS
    ]
    page = (_GUIDES / guide).read_text("utf-8").replace("`", "")

    assert expected == [line for line in page.splitlines() if line in expected]
