"""Generated files are what the code would generate now."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deploy.generate.artefacts import artefacts

ROOT = Path(__file__).parents[2]
BUILDERS = artefacts(ROOT)
MANIFESTS = ROOT / "deploy/kubernetes"


@pytest.mark.parametrize("name", BUILDERS)
def test_generated_files_are_fresh(name: str) -> None:
    texts = BUILDERS[name]()

    stale = [
        str(path.relative_to(ROOT))
        for path, text in texts.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert texts
    assert stale == [], "run: make generate"


def test_nothing_else_lies_among_the_manifests() -> None:
    written = set(BUILDERS["manifests"]())
    by_hand = {MANIFESTS / name for name in ("namespace.yaml", "values.yaml")}

    assert set(MANIFESTS.iterdir()) == written | by_hand


def test_kustomize_finds_every_manifest() -> None:
    listed = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["resources"]
    apart = {"kustomization.yaml", "values.yaml"}

    assert set(listed) == {path.name for path in MANIFESTS.glob("*.yaml")} - apart
