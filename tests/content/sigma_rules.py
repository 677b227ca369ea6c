"""The Sigma rules and pipelines of ``deploy/sigma``, loaded and converted."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from sigma.backends.elasticsearch.elasticsearch_eql import EqlBackend
from sigma.backends.elasticsearch.elasticsearch_esql import ESQLBackend
from sigma.backends.elasticsearch.elasticsearch_lucene import LuceneBackend
from sigma.backends.kusto.kusto import KustoBackend
from sigma.backends.splunk.splunk import SplunkBackend
from sigma.collection import SigmaCollection
from sigma.processing.pipeline import ProcessingPipeline

SIGMA = Path(__file__).parents[2] / "deploy" / "sigma"
FILES: dict[str, list[Any]] = {
    path.stem: list(yaml.safe_load_all(path.read_text("utf-8")))
    for path in sorted((SIGMA / "rules").glob("*.yml"))
}
"""Each file: the rules that a correlation counts, if it is one, and the alert after them."""
RULES: dict[str, Any] = {rule["name"]: rule for rules in FILES.values() for rule in rules}
"""All rules by name; those that are only counted, too."""
ALERTS = sorted(FILES)
PIPELINES = {path.stem: path.read_text("utf-8") for path in sorted(SIGMA.glob("pipelines/*.yml"))}
BACKENDS: dict[str, tuple[Any, str]] = {
    "lucene": (LuceneBackend, "ecs"),
    "esql": (ESQLBackend, "ecs"),
    "eql": (EqlBackend, "ecs"),
    "splunk": (SplunkBackend, "cim"),
    "kusto": (KustoBackend, "sentinel"),
}
"""Each language with the pipeline for what its engine stores."""


def pipeline_of(name: str) -> ProcessingPipeline:
    """Return the pipeline for the fields of one format, new: pipelines have a state."""
    return ProcessingPipeline.from_yaml(PIPELINES[name])


def with_parts(name: str) -> Iterator[str]:
    """Yield the rules that ``name`` counts, then itself: pySigma wants this order."""
    for part in RULES[name].get("correlation", {}).get("rules", []):
        yield from with_parts(part)
    yield name


def collection_of(name: str) -> SigmaCollection:
    """Return a rule with what it counts."""
    return SigmaCollection.from_dicts([deepcopy(RULES[part]) for part in with_parts(name)])


def convert(name: str, backend: str) -> str:
    """Return the query of a rule, or raise ``NotImplementedError`` if the language has no way."""
    make, pipeline = BACKENDS[backend]
    queries = make(pipeline_of(pipeline)).convert(collection_of(name))
    return str(queries[-1])
