"""The Sigma rules are valid, complete, and become queries of the languages that can say them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from sigma.collection import SigmaCollection
from sigma.validation import SigmaValidator
from sigma.validators.core import validators

from tests.content.sigma_rules import ALERTS, BACKENDS, PIPELINES, RULES, SIGMA, convert

_ONLINE = {"attacktag", "d3_fendtag"}
"""Validators that download a list of all techniques."""
_NEEDED = {"description", "falsepositives", "id", "level", "name", "references", "status", "title"}
_EXISTS = {"group_admin_added", "login_from_unusual_country"}
_ORDERED = {"login_after_disable", "refused_then_accepted"}
_SINGLE = {name for name in ALERTS if "detection" in RULES[name]}
CANNOT = {
    "lucene": set(ALERTS) - _SINGLE,
    "kusto": set(ALERTS) - _SINGLE,
    "splunk": _ORDERED,
    "esql": _ORDERED,
    "eql": {"login_after_disable", *_EXISTS},
}
"""What a backend refuses: docs/siem/sigma.md says it, too."""


def test_each_rule_passes_the_validators_of_pysigma() -> None:
    found = SigmaCollection.load_ruleset([SIGMA / "rules"])
    found.resolve_rule_references()
    rules: list[Any] = found.rules
    validator = SigmaValidator([check for name, check in validators.items() if name not in _ONLINE])

    assert [] == validator.validate_rules(iter(rules))
    assert set(validators) > _ONLINE


def test_each_rule_has_what_a_person_needs_to_judge_an_alert() -> None:
    lacking = {name: _NEEDED - set(rule) for name, rule in RULES.items() if _NEEDED - set(rule)}
    misnamed = [name for name, rule in RULES.items() if rule["name"] != name]

    assert ({}, []) == (lacking, misnamed)
    assert len(ALERTS) > 12


def test_each_pipeline_knows_every_field_of_every_log() -> None:
    fields = {
        name: {item["id"]: set(item["mapping"]) for item in _items(text) if "_fields" in item["id"]}
        for name, text in PIPELINES.items()
    }

    assert [fields["ecs"]] * len(fields) == list(fields.values())


def _items(pipeline: str) -> list[dict[str, dict[str, str]]]:
    found: list[dict[str, dict[str, str]]] = yaml.safe_load(pipeline)["transformations"]
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_converts_each_rule_but_those_that_its_language_cannot_say(backend: str) -> None:
    refused = set()
    for name in ALERTS:
        try:
            query = convert(name, backend)
        except NotImplementedError:
            refused.add(name)
        else:
            assert query.strip(), name

    assert CANNOT[backend] == refused
