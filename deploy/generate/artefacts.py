"""Every generated file with its text; what a test compares and what ``__main__`` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from deploy.generate.catalogue import catalogue
from deploy.generate.commands_page import commands_page
from deploy.generate.elastic.dashboards import dashboards
from deploy.generate.elastic.monitors import monitors
from deploy.generate.elastic.rules import rules
from deploy.generate.log_lines import log_lines
from deploy.generate.logs_page import logs_page
from deploy.generate.manifests import manifests
from deploy.generate.metrics_page import metrics_page
from deploy.generate.runbook_page import runbook_page
from deploy.generate.settings_page import settings_page
from deploy.generate.unrun_page import unrun_page
from deploy.generate.values_schema import values_schema
from forwarder import __version__
from forwarder.config import InstalledPlugins, json_schema

Texts: TypeAlias = dict[Path, str]

CHART = Path("helm/cloudflare-access-forwarder")
_UNRUN = Path("docs/not-run.md")
_OPERATIONS = Path("docs/operations.md")
_RUNBOOK = Path("forwarder/admin/status_page/runbook.html")
_COPIED_INTO_THE_CHART = {
    "deploy/prometheus/recording.yaml": "files/recording.yaml",
    "deploy/prometheus/alerts.yaml": "files/alerts.yaml",
    "deploy/grafana/dashboard.json": "files/dashboard.json",
}


def artefacts(root: Path) -> dict[str, Callable[[], Texts]]:
    """Return the builders in an order in which each may read what those before it have written."""
    return {
        "version of the chart": lambda: {root / CHART / "Chart.yaml": _versioned(root)},
        "values schema": lambda: {root / CHART / "values.schema.json": _schema(root)},
        "files of the chart": lambda: _copies(root),
        "manifests": lambda: manifests(root),
        "content for Elastic and OpenSearch": lambda: {
            root / "deploy/elastic/dashboards.ndjson": dashboards(),
            root / "deploy/elastic/elasticsearch/rules.ndjson": rules(),
            root / "deploy/elastic/opensearch/monitors.ndjson": monitors(),
        },
        "metrics page": lambda: {root / "docs/metrics.md": metrics_page(catalogue())},
        "settings page": lambda: {
            root / "docs/configuration.md": settings_page(InstalledPlugins())
        },
        "commands page": lambda: {root / "docs/commands.md": commands_page()},
        "logs page": lambda: {root / "docs/logs.md": logs_page(log_lines())},
        "runbook": lambda: {root / _RUNBOOK: runbook_page((root / _OPERATIONS).read_text("utf-8"))},
        "page of what is not run": lambda: {root / _UNRUN: unrun_page(pages(root))},
    }


def pages(root: Path) -> dict[str, str]:
    """Return the texts of the README and of every page, by path relative to ``root``."""
    found = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return {
        str(path.relative_to(root)): path.read_text(encoding="utf-8")
        for path in found
        if path != root / _UNRUN
    }


def _versioned(root: Path) -> str:
    """Return the chart's description with the version of the program, which is the only one."""
    text = (root / CHART / "Chart.yaml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^version: .*$", f"version: {__version__}", text)
    return re.sub(r"(?m)^appVersion: .*$", f'appVersion: "{__version__}"', text)


def chart_schema(root: Path) -> dict[str, Any]:
    """Return the schema of the chart's values."""

    def read(path: Path) -> Any:
        return yaml.safe_load(path.read_text(encoding="utf-8"))

    groups = read(root / "deploy/prometheus/alerts.yaml")["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"]]
    values = (root / CHART / "values.yaml").read_text(encoding="utf-8")
    settings = json_schema(InstalledPlugins())
    return values_schema(values, settings, alerts, read(root / CHART / "files/thresholds.yaml"))


def _schema(root: Path) -> str:
    schema = chart_schema(root)
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _copies(root: Path) -> Texts:
    """Helm reads nothing outside of a chart's own folder."""
    return {
        root / CHART / target: (root / source).read_text(encoding="utf-8")
        for source, target in _COPIED_INTO_THE_CHART.items()
    }
