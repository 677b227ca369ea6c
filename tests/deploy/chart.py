"""The chart, rendered by Helm's own engine, as Python values."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import helm_python as helm
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/cloudflare-access-forwarder"
MATRIX = sorted((Path(__file__).parent / "values").glob("*.yaml"))
NEEDED: dict[str, Any] = {
    "accounts": [
        {"account_id": "023e105f4ecef8ad9ca31a8372d0c353", "api_token_file": "/run/secrets/t"}
    ],
    "sinks": {"console": {"type": "stdout"}},
}
Resource: TypeAlias = dict[str, Any]


def values_of(path: Path) -> dict[str, Any]:
    """Return a set of values as Helm would read it."""
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return values


def files(values: dict[str, Any], revision: int = 1) -> dict[str, str]:
    """Return the rendered texts by the template's name."""
    return _rendered(json.dumps(values, sort_keys=True), revision)


@cache
def _rendered(values: str, revision: int) -> dict[str, str]:
    with helm.Chart.load(CHART) as chart:
        rendered = chart.render(
            json.loads(values), name="demo", namespace="siem", revision=revision
        )
    return {Path(name).name: text for name, text in rendered.items()}


def resources(values: dict[str, Any]) -> list[Resource]:
    """Return every rendered resource."""
    texts = files(values)
    return [
        resource
        for name, text in texts.items()
        if name != "NOTES.txt"
        for resource in yaml.safe_load_all(text)
        if resource
    ]


def one(values: dict[str, Any], kind: str) -> Resource:
    """Return the only resource of a kind."""
    (found,) = (each for each in resources(values) if each["kind"] == kind)
    return found


def pods_of(resource: Resource) -> list[dict[str, Any]]:
    """Return the spec of the pod that a resource is or makes; none for most kinds."""
    if resource["kind"] == "Pod":
        return [resource["spec"]]
    template = resource.get("spec", {}).get("template")
    return [template["spec"]] if template else []


def changed(**values: Any) -> dict[str, Any]:
    """Return the needed values with some more."""
    return NEEDED | values
