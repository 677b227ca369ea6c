"""Plain Kubernetes manifests, rendered from the chart by Helm's own engine."""

from __future__ import annotations

import re
from pathlib import Path

import helm_python as helm
import yaml

_FOLDER = Path("deploy/kubernetes")
_CHART = Path("helm/cloudflare-access-forwarder")
_FOR_HELM_ONLY = re.compile(
    r"^ *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", re.MULTILINE
)
_HEAD = "# Generated from the chart with values.yaml of this folder: make generate\n"
_NAME, _NAMESPACE = "forwarder", "forwarder"


def manifests(root: Path) -> dict[Path, str]:
    """Return the files of deploy/kubernetes with their texts."""
    folder = root / _FOLDER
    values = yaml.safe_load((folder / "values.yaml").read_text(encoding="utf-8"))
    with helm.Chart.load(root / _CHART) as chart:
        rendered = chart.render(values, name=_NAME, namespace=_NAMESPACE)
    texts = {
        folder / Path(name).name: _plain(text)
        for name, text in sorted(rendered.items())
        if text.strip(" -\n") and not name.endswith("NOTES.txt") and "/tests/" not in name
    }
    return texts | {folder / "kustomization.yaml": _kustomization(texts)}


def _plain(text: str) -> str:
    return _HEAD + _FOR_HELM_ONLY.sub("", text).strip() + "\n"


def _kustomization(texts: dict[Path, str]) -> str:
    names = ["namespace.yaml", *sorted(path.name for path in texts)]
    lines = "".join(f"  - {name}\n" for name in names)
    head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
    return f"{_HEAD}{head}namespace: {_NAMESPACE}\nresources:\n{lines}"
