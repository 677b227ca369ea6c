"""Every set of values gives resources that Kubernetes takes and settings that load."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
from jsonschema import Draft7Validator

from deploy.generate.artefacts import chart_schema
from forwarder.config import InstalledPlugins, load
from tests.deploy.chart import (
    CHART,
    MATRIX,
    NEEDED,
    Resource,
    one,
    pods_of,
    resources,
    values_of,
)
from tests.deploy.pod_security import violations

OLDEST, MIDDLE = "1.29", "1.33"
NEWEST = kubernetes_validate.latest_version()
UNCHECKED = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
"""Kinds of monitoring.coreos.com, whose schemas are not Kubernetes' own: see the shape tests."""
SECRETS = "/run/secrets/forwarder"


@cache
def rendered(path: Path) -> list[Resource]:
    return resources(values_of(path))


def test_the_matrix_is_as_large_as_promised() -> None:
    assert len(MATRIX) >= 12
    assert {"StatefulSet", "Deployment", "Job"} <= {
        each["kind"] for path in MATRIX for each in rendered(path)
    }


def test_helm_lint_has_nothing_to_say() -> None:
    for path in MATRIX:
        told = helm.lint(CHART, values_of(path), strict=True)

        faults = [message for message in told["messages"] if message["severity"] > 1]
        assert (path.stem, told["errors"], faults) == (path.stem, [], [])


@pytest.mark.parametrize("version", [OLDEST, MIDDLE, NEWEST])
def test_kubernetes_takes_every_resource(version: str) -> None:
    distinct = {
        json.dumps(resource, sort_keys=True)
        for path in MATRIX
        for resource in rendered(path)
        if resource["kind"] not in UNCHECKED
    }

    for resource in distinct:
        kubernetes_validate.validate(json.loads(resource), version, strict=True)


def test_only_kinds_of_the_prometheus_operator_are_unchecked() -> None:
    kinds = {(each["apiVersion"], each["kind"]) for path in MATRIX for each in rendered(path)}

    assert {kind for api, kind in kinds if api == "monitoring.coreos.com/v1"} == UNCHECKED
    assert {api for api, kind in kinds if kind in UNCHECKED} == {"monitoring.coreos.com/v1"}


def test_a_misspelt_key_would_be_found() -> None:
    stateful_set = one(NEEDED, "StatefulSet")
    stateful_set["spec"]["template"]["spec"]["nodeSelektor"] = {}

    for version in (OLDEST, MIDDLE, NEWEST):
        with pytest.raises(kubernetes_validate.ValidationError, match="nodeSelektor"):
            kubernetes_validate.validate(stateful_set, version, strict=True)


def test_the_restricted_profile_is_met() -> None:
    for path in MATRIX:
        kinds = {each["kind"] for each in rendered(path)}
        faults = [
            fault for each in rendered(path) for pod in pods_of(each) for fault in violations(pod)
        ]

        assert len(kinds & {"StatefulSet", "Deployment"}) == 1
        assert (path.stem, faults) == (path.stem, [])


def test_the_forwarder_takes_the_settings(tmp_path: Path) -> None:
    for path in MATRIX:
        folder = tmp_path / path.stem
        folder.mkdir()
        check_settings(path, folder)


def settings_in(values: dict[str, Any]) -> str:
    """Return the settings file that the pod reads."""
    kinds = {"StatefulSet", "Deployment"}
    (pod,) = (pod for each in resources(values) if each["kind"] in kinds for pod in pods_of(each))
    (volume,) = (each["configMap"] for each in pod["volumes"] if each["name"] == "config")
    (found,) = (
        each
        for each in resources(values)
        if each["kind"] == "ConfigMap" and each["metadata"]["name"] == volume["name"]
    )
    (item,) = volume.get("items", [{"key": "config.yaml", "path": "config.yaml"}])
    assert item["path"] == "config.yaml"
    return str(found["data"][item["key"]])


def check_settings(path: Path, tmp_path: Path) -> None:
    values = values_of(path)
    text = settings_in(values)
    folder = values.get("secrets", {}).get("mountPath", SECRETS)
    for name in re.findall(rf"{folder}/([\w.-]+)", text):
        (tmp_path / name).write_text("s3cret" * 6)
        (tmp_path / name).chmod(0o400)
    settings = tmp_path / "config.yaml"
    settings.write_text(text.replace(folder, str(tmp_path)))
    environment = {each["name"]: each.get("value", "v") for each in values.get("extraEnv", [])}
    environment["POD_IP"] = "10.0.0.1"

    loaded = load(settings, environment)

    # An Ingress is the proxy that the warning about plain HTTP wants.
    assert [text for text in loaded.warnings if "only a proxy with HTTPS" not in text] == []
    if "existingConfigMap" not in values:
        assert len(loaded.accounts) == len(values["accounts"])
        assert {sink.name for sink in loaded.sinks} == set(values["sinks"])
    assert str(loaded.root.state_dir) == "/var/lib/forwarder/state"


def test_names_fit_into_labels() -> None:
    for resource in (each for path in MATRIX for each in rendered(path)):
        labels = resource["metadata"]["labels"] | {"name": resource["metadata"]["name"]}
        assert [label for label in labels.values() if len(label) > 63] == []


def test_there_is_a_set_with_every_sink() -> None:
    used = {sink["type"] for path in MATRIX for sink in values_of(path)["sinks"].values()}

    assert used == set(InstalledPlugins().names("sinks"))


def test_the_schema_says_the_same_to_every_validator() -> None:
    """Helm's releases use different validators: the sets are valid for another one too."""
    schema: Any = chart_schema(CHART.parents[1])
    Draft7Validator.check_schema(schema)
    with helm.Chart.load(CHART) as chart:
        for path in MATRIX:
            Draft7Validator(schema).validate(chart.merge_values(values_of(path)))


def test_the_schemas_of_the_oldest_version_are_there() -> None:
    folder = package_files("kubernetes_validate") / "kubernetes-json-schema"

    assert (folder / f"v{OLDEST}.0-local-strict").is_dir()
    assert NEWEST > OLDEST
