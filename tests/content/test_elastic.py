"""Rules for Elastic and monitors for OpenSearch: as severe as the Sigma rules, as the page says."""

from __future__ import annotations

from pathlib import Path

from deploy.generate.elastic.detections import DETECTIONS
from tests.content.sigma_rules import ALERTS, RULES

_GUIDE = Path(__file__).parents[2] / "docs/siem/elastic.md"


def test_a_detection_is_as_severe_as_its_sigma_rule() -> None:
    severities = {one.id: one.severity for one in DETECTIONS}
    expected = {name: RULES[name]["level"] for name in ALERTS if name in severities}

    assert len(expected) > 1
    assert expected == {name: severities[name] for name in expected}


def test_the_guide_lists_every_detection() -> None:
    expected = [
        f"| {one.title} | {one.text} | {one.severity} | {one.every}, {one.window} | {one.tuning} |"
        for one in DETECTIONS
    ]
    page = _GUIDE.read_text("utf-8").replace("`", "")

    assert expected == [line for line in page.splitlines() if line in expected]
