"""The examples for each cloud give resources that Kubernetes takes and settings that load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from deploy.generate.markdown import blocks
from forwarder.config import load
from tests.deploy.chart import CHART, NEEDED, resources

PAGE = CHART.parents[1] / "docs/clouds.md"
EXAMPLES = [
    yaml.safe_load(block.text)
    for block in blocks(PAGE.read_text(encoding="utf-8"))
    if block.language == "yaml"
]
INJECTED = {
    "AZURE_CLIENT_ID": "00000000-0000-0000-0000-000000000000",
    "AZURE_TENANT_ID": "contoso.example",
}
"""What AKS puts into the environment of a pod with an identity, beside the token's file."""


def test_each_section_with_values_has_an_example() -> None:
    assert len(EXAMPLES) >= 6


@pytest.mark.parametrize("example", EXAMPLES, ids="+".join)
def test_an_example_of_a_cloud_works(example: dict[str, Any], tmp_path: Path) -> None:
    found = resources(NEEDED | example)
    for each in found:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
    text = next(
        each["data"]["config.yaml"]
        for each in found
        if each["kind"] == "ConfigMap" and not each["metadata"]["name"].endswith("-journal")
    )
    secret = tmp_path / "secret"
    secret.write_text("host=db user=forwarder" + " " * 32)
    secret.chmod(0o400)
    settings = tmp_path / "config.yaml"
    settings.write_text(_with_secrets_in(text, str(secret)))
    environment = INJECTED | {"AZURE_FEDERATED_TOKEN_FILE": str(secret)}

    loaded = load(settings, environment)

    assert {sink.name for sink in loaded.sinks} == set((NEEDED | example)["sinks"])


def _with_secrets_in(text: str, file: str) -> str:
    """Return the settings with one file for each secret that Kubernetes would mount."""
    return "\n".join(
        line.split("/run/")[0] + file if ": /run/" in line else line for line in text.splitlines()
    )


def test_a_slip_in_an_example_would_be_found() -> None:
    with pytest.raises(helm.HelmError):
        resources(NEEDED | {"serviceAccount": {"anotations": {}}})
