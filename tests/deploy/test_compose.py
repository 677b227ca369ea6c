"""The compose file: what it mounts exists, what it starts is pinned, its settings load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from forwarder.config import load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_everything_for_a_look_is_there() -> None:
    parts = {"simulator", "forwarder", "kafka", "opensearch", "prometheus", "grafana"}

    assert parts <= SERVICES.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_and_waits_for_what_exists(name: str) -> None:
    service = SERVICES[name]

    assert ":" in service["image"]
    assert not service["image"].endswith(":latest")
    for other, condition in service.get("depends_on", {}).items():
        if condition["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_exists_and_is_not_written(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, _, target = volume.partition(":")
        if source.startswith("."):
            assert (FOLDER / source).is_file()
            assert target.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_forwarder_runs_without_privileges_and_may_end_in_peace() -> None:
    service = SERVICES["forwarder"]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert int(service["stop_grace_period"].removesuffix("s")) > 25


def test_the_settings_load_and_reach_the_other_services() -> None:
    settings = load(FOLDER / "compose/config.yaml", {})
    text = (FOLDER / "compose/config.yaml").read_text()

    assert settings.warnings == ()
    assert {sink.name for sink in settings.sinks} == {"console", "bus", "search"}
    for host in ("simulator:8787", "kafka:9092", "opensearch:9200"):
        assert host in text
        assert host.partition(":")[0] in SERVICES
