"""The Sigma rules are valid, complete, and become queries of the languages that can say them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from sigma.collection import SigmaCollection
from sigma.validation import SigmaValidator
from sigma.validators.core import validators

from tests.content.sigma_rules import ALERTS, BACKENDS, FILES, PIPELINES, SIGMA, convert

_ONLINE = {"attacktag", "d3_fendtag"}
"""Validators that download a list of all techniques."""
_NEEDED = {"description", "falsepositives", "id", "level", "name", "references", "status", "title"}
_EXISTS = {"group_admin_added", "login_from_unusual_country"}
_ORDERED = {"login_after_disable", "refused_then_accepted"}
_COUNTED = {name for name, rules in FILES.items() if len(rules) > 1}
CANNOT = {
    "lucene": _COUNTED,
    "kusto": _COUNTED,
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


def test_each_alert_has_what_a_person_needs_to_judge_it() -> None:
    lacking = {name: _NEEDED - set(rules[-1]) for name, rules in FILES.items()}
    misnamed = [name for name, rules in FILES.items() if rules[-1]["name"] != name]

    assert ([], []) == ([name for name, keys in lacking.items() if keys], misnamed)
    assert len(FILES) > 12


def test_what_correlations_count_is_the_same_in_each_file() -> None:
    # A file is whole by itself: sigma-cli takes one file at a time, in any order.
    counted: dict[str, list[Any]] = {}
    for name in _COUNTED:
        for rule in FILES[name][:-1]:
            if "detection" in rule:
                counted.setdefault(rule["name"].removeprefix(name), []).append(rule["detection"])

    assert [] == [kind for kind, found in counted.items() if found != found[:1] * len(found)]
    assert set(counted) == {"_accepted", "_refused", "_removed", "_token"}


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


def test_the_page_says_which_language_can_say_which_rule() -> None:
    page = (SIGMA.parents[1] / "docs" / "siem" / "sigma.md").read_text("utf-8")
    found = re.findall(r"^\| (`.+`) \|" + 5 * r" (yes|no|wrong) \|" + "$", page, re.MULTILINE)
    rows = [(name.strip("`"), *words) for names, *words in found for name in names.split(", ")]
    order = ("lucene", "esql", "eql", "splunk", "kusto")
    said = {
        backend: {name for name, *words in rows if words[column] == "no"}
        for column, backend in enumerate(order)
    }

    assert CANNOT == said
    assert set(FILES) == {name for name, *_ in rows}
