"""Generated files are what the code would generate now."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deploy.generate.artefacts import artefacts

ROOT = Path(__file__).parents[2]
TEXTS = {path: text for build in artefacts(ROOT) for path, text in build().items()}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_generated_file_is_fresh(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == TEXTS[path], "run: make generate"


def test_nothing_else_lies_among_the_manifests() -> None:
    written = {path for path in TEXTS if path.parent.name == "kubernetes"}
    by_hand = {ROOT / "deploy/kubernetes" / name for name in ("namespace.yaml", "values.yaml")}

    assert set((ROOT / "deploy/kubernetes").iterdir()) == written | by_hand


def test_kustomize_finds_every_manifest() -> None:
    folder = ROOT / "deploy/kubernetes"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]

    assert set(listed) == {path.name for path in folder.glob("*.yaml")} - {
        "kustomization.yaml",
        "values.yaml",
    }
