"""The chart in the hands of Helm itself, as people install it; elsewhere its engine renders it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import CHART, MATRIX, resources, values_of
from tests.integration.go_programs import go_program
from tests.integration.unavailable import Unavailable

pytestmark = [pytest.mark.integration, pytest.mark.lengthy, pytest.mark.timeout(900)]
_HELM = "helm.sh/helm/v3/cmd/helm@v3.19.0"


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    programs = Path(os.environ.get("GO_PROGRAMS") or tmp_path_factory.mktemp("programs"))
    try:
        return go_program("helm", _HELM, programs)
    except Unavailable as missing:
        pytest.skip(f"Helm: {missing}")


def run(helm: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm, *words], capture_output=True, text=True, check=False)


# Helm has no cluster to ask, and a build without its release's flags assumes an old one.
def rendered(helm: Path, chart: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    cluster = ("--namespace", "siem", "--kube-version", "1.33.0")
    return run(helm, "template", "demo", chart, *cluster, *words)


def in_order(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda one: (one["kind"], one["metadata"]["name"]))


def test_helm_renders_what_its_engine_renders(helm: Path) -> None:
    for path in MATRIX:
        done = rendered(helm, CHART, "--values", path)
        assert (path.stem, done.returncode, done.stderr) == (path.stem, 0, "")

        found = [each for each in yaml.safe_load_all(done.stdout) if each]
        assert in_order(found) == in_order(resources(values_of(path)))


def test_helm_lints_and_packs_the_chart(helm: Path, tmp_path: Path) -> None:
    words = ("--strict", "--kube-version", "1.33.0", "--values", MATRIX[0])
    linted = run(helm, "lint", CHART, *words)
    packed = run(helm, "package", CHART, "--destination", tmp_path)
    (archive,) = tmp_path.iterdir()
    found = rendered(helm, archive, "--values", MATRIX[0])

    assert (linted.returncode, packed.returncode, found.returncode) == (0, 0, 0), linted.stdout


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("replicas=2", "with a journal in a file only 1"),
        ("settings.journal.max_size=20GiB", "at least twice as large as max_size"),
        ("podLabels.x=true", "/podLabels/x"),
        ("persistance.size=1Gi", "persistance"),
    ],
)
def test_helm_refuses_with_the_reason(helm: Path, given: str, sentence: str) -> None:
    minimal = next(path for path in MATRIX if path.stem == "minimal")
    done = rendered(helm, CHART, "--values", minimal, "--set", given)

    assert done.returncode != 0
    assert sentence in done.stderr
