"""The compose file: what it mounts exists, what it starts is pinned, its settings load."""

from __future__ import annotations

import re
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


@pytest.mark.parametrize("name", ["forwarder", "forwarder-1", "forwarder-2"])
def test_the_forwarder_runs_without_privileges_and_may_end_in_peace(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert int(service["stop_grace_period"].removesuffix("s")) > 25


@pytest.mark.parametrize(
    ("file", "sinks", "addresses"),
    [
        (
            "config.yaml",
            {"console", "bus", "search"},
            {"http://simulator:8787", "kafka:9092", "http://opensearch:9200"},
        ),
        (
            "replica.yaml",
            {"console", "search"},
            {"http://simulator:8787", "host=postgres", "http://opensearch:9200"},
        ),
    ],
)
def test_the_settings_load_and_reach_the_other_services(
    file: str, sinks: set[str], addresses: set[str]
) -> None:
    settings = load(FOLDER / "compose" / file, {})
    text = (FOLDER / "compose" / file).read_text()
    hosts = {re.sub(r"^(http://|host=)|:\d+$", "", one) for one in addresses}

    assert settings.warnings == ()
    assert {sink.name for sink in settings.sinks} == sinks
    assert [one for one in addresses if one not in text] == []
    assert hosts <= SERVICES.keys()


def test_replicas_start_only_when_named_and_keep_their_state_apart() -> None:
    replicas = [SERVICES[name] for name in ("forwarder-1", "forwarder-2")]
    tables = SERVICES["journal"]
    password = SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"]

    for service in (*replicas, tables, SERVICES["postgres"]):
        assert service["profiles"] == ["ha"]
    for replica in replicas:
        assert any(one.startswith("/var/lib/forwarder:uid=65532") for one in replica["tmpfs"])
        assert replica["depends_on"]["journal"]["condition"] == "service_completed_successfully"
        assert replica["volumes"] == tables["volumes"]
    assert tables["command"] == ["journal", "create"]
    assert f"password={password}" in (FOLDER / "compose/replica.yaml").read_text()
