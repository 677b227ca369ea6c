"""Every value of the chart does something, and what each does."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import helm_python as helm
import pytest
import yaml

from deploy.generate.kubernetes_shapes import SHAPES
from forwarder.config.changes import ONLY_BY_RESTART
from tests.deploy.chart import (
    CHART,
    MATRIX,
    Resource,
    changed,
    files,
    one,
    pods_of,
    resources,
    values_of,
)

Path = tuple[str, ...]
POSTGRES = {"journal": {"type": "postgres", "dsn_file": "/run/secrets/forwarder/dsn"}}
GUARDED = {"admin": {"token_file": "/run/secrets/forwarder/admin"}}
FORWARDERS_OWN = {"accounts", "sinks", "settings", "thirdPartyPlugins"}
"""Other tests load the settings; the last one only widens the schema."""


def leaves(values: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(values, dict) and values and ".".join(path) not in SHAPES:
        for key, item in values.items():
            yield from leaves(item, (*path, key))
    else:
        yield path


def without(values: dict[str, Any], path: Path) -> dict[str, Any] | None:
    """Return the values less one; None if they do not have it."""
    rest = copy.deepcopy(values)
    parent = rest
    for key in path[:-1]:
        parent = parent.get(key, {})
    return rest if parent.pop(path[-1], None) is not None else None


def matters(values: dict[str, Any], path: Path) -> bool:
    rest = without(values, path)
    if rest is None:
        return False
    try:
        return files(rest) != files(values)
    except helm.HelmError:
        return True


def test_every_value_changes_what_is_rendered_in_some_set() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    sets = [values_of(path) for path in MATRIX]
    idle = [
        ".".join(path)
        for path in leaves(defaults)
        if path[0] not in FORWARDERS_OWN and not any(matters(values, path) for values in sets)
    ]

    assert idle == []


def test_an_idle_value_would_be_found() -> None:
    assert not matters(changed(podLabels={}), ("podLabels",))
    assert matters(changed(podLabels={"a": "b"}), ("podLabels",))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (changed(existingConfigMap={"name": "site"}), "accounts and sinks would not be read"),
        (
            changed(settings={"journal": {"max_size": "20GiB"}}),
            "max_size is 20GiB and persistence.size 8Gi",
        ),
        (changed(persistence={"size": "4G"}), "at least twice as large"),
        (changed(service={"type": "LoadBalancer"}), "set settings.admin.token_file"),
        (changed(ingress={"enabled": True}), "ingress.host is needed"),
        (changed(logpush={"ingress": {"enabled": True}}), "logpush.ingress.host is needed"),
        (
            changed(settings=GUARDED, podMonitor={"enabled": True}),
            "set podMonitor.authorization to",
        ),
        (changed(podDisruptionBudget={"minAvailable": 1}), "would block every drain"),
        (changed(podDisruptionBudget={"maxUnavailable": 0}), "would block every drain"),
        (
            changed(podDisruptionBudget={"minAvailable": 1, "maxUnavailable": 1}, replicas=0),
            "takes one of the two",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(helm.HelmRenderError, match=sentence):
        files(values)


@pytest.mark.parametrize(
    "values",
    [
        changed(settings={"journal": {"max_size": "4GiB"}}),
        changed(persistence={"size": "4294967296"}),
        changed(settings={"journal": {"max_size": "1TiB"}}, persistence={"existingClaim": "old"}),
        changed(settings=POSTGRES, podDisruptionBudget={"minAvailable": "50%"}),
    ],
)
def test_what_can_work_is_not_refused(values: dict[str, Any]) -> None:
    assert files(values)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        (changed(podLabels={"x": True}), "/podLabels/x"),
        (changed(podLabels={"x": "two words"}), "/podLabels/x"),
        (changed(podAnnotations={"x": 1}), "/podAnnotations/x"),
        (changed(commonLabels={"x": 1}), "/commonLabels/x"),
        (changed(extraEnv=[{"nam": "A"}]), "/extraEnv/0"),
        (changed(extraEnv=[{"name": "A", "value": 1}]), "/extraEnv/0/value"),
        (changed(extraVolumes=[{"nam": "v"}]), "/extraVolumes/0"),
        (changed(resources={"limit": {}}), "/resources"),
        (changed(resources={"limits": {"memory": "1 GB"}}), "/resources/limits/memory"),
        (changed(tolerations=[{"keys": "x"}]), "/tolerations/0"),
        (changed(probes={"liveness": {"period": 1}}), "/probes/liveness"),
        (changed(prometheusRule={"disabled": ["Nope"]}), "/prometheusRule/disabled/0"),
        (changed(prometheusRule={"alerts": {"Nope": {}}}), "/prometheusRule/alerts"),
        (
            changed(prometheusRule={"alerts": {"ForwarderDown": {"threshold": 1}}}),
            "/prometheusRule/alerts/ForwarderDown",
        ),
        (changed(prometheusRule={"runbook": "docs/operations.md"}), "/prometheusRule/runbook"),
        (changed(prometheusRule={"extraRules": [{"expr": "1"}]}), "/prometheusRule/extraRules/0"),
        (changed(extraObjects=[{"kind": "Job"}]), "/extraObjects/0"),
        (changed(updateStrategy={"type": "Rolling"}), "/updateStrategy/type"),
        (changed(dnsConfig={"options": [{"nam": "x"}]}), "/dnsConfig/options/0"),
        (changed(hostAliases=[{"ip": "10.0.0.1"}]), "/hostAliases/0"),
    ],
)
def test_a_slip_in_what_kubernetes_owns_is_found_before_the_cluster_sees_it(
    values: dict[str, Any], place: str
) -> None:
    with pytest.raises(helm.HelmValuesError, match=place):
        files(values)


def checksum(settings: dict[str, Any], revision: int = 1) -> str:
    rendered = files(changed(settings=settings), revision)
    text = rendered["statefulset.yaml"].strip() or rendered["deployment.yaml"]
    template = yaml.safe_load(text)["spec"]["template"]
    return str(template["metadata"]["annotations"]["checksum/config"])


NEEDS_A_POD: dict[str, dict[str, Any]] = {
    "journal": {"journal": {"max_size": "1GiB"}},
    "admin": {"admin": {"listen": "0.0.0.0:8080"}},
    "log.format": {"log": {"format": "console"}},
    "logpush": {"logpush": {"listen": "0.0.0.0:9465", "secret_file": "/run/secrets/push"}},
    "tracing": {"tracing": {"endpoint": "http://collector:4318"}},
}
"""Settings that only a restart takes, by the name that the forwarder has for them."""


def test_a_pod_that_reloads_is_replaced_only_for_what_needs_a_restart() -> None:
    reloads = {"reload_on_change": True}
    before = checksum(reloads)

    # The chart itself sets where the state is.
    assert {*NEEDS_A_POD, "state_dir"} == set(ONLY_BY_RESTART)
    for name, changes in NEEDS_A_POD.items():
        assert checksum(reloads | changes) != before, name
    assert checksum(reloads | {"log": {"level": "debug"}}) == before
    assert checksum({}) != before


def test_settings_of_a_later_revision_are_newer_than_those_of_earlier_ones() -> None:
    def generation(revision: int, **journal: Any) -> int | None:
        values = changed(settings={"journal": POSTGRES["journal"] | journal})
        text = yaml.safe_load(files(values, revision)["configmap.yaml"])["data"]["config.yaml"]
        found: int | None = yaml.safe_load(text)["journal"].get("settings_generation")
        return found

    assert [generation(1), generation(2), generation(12)] == [None, 2, 12]
    assert generation(12, settings_generation=3) == 3
    assert "settings_generation" not in files(changed(), 12)["configmap.yaml"]


def test_a_fleet_is_called_as_its_release_unless_it_has_a_name() -> None:
    def journal(**more: str) -> dict[str, Any]:
        values = changed(settings={"journal": POSTGRES["journal"] | more})
        text = yaml.safe_load(files(values)["configmap.yaml"])["data"]["config.yaml"]
        found: dict[str, Any] = yaml.safe_load(text)["journal"]
        return found

    assert journal()["fleet"] == "siem/demo"
    assert journal(fleet="north")["fleet"] == "north"
    assert "fleet" not in files(changed())["configmap.yaml"]


def test_a_revision_replaces_replicas_that_do_not_reload() -> None:
    assert checksum(POSTGRES, 2) != checksum(POSTGRES, 3)
    assert checksum(POSTGRES | {"reload_on_change": True}, 2) == checksum(
        POSTGRES | {"reload_on_change": True}, 3
    )


def test_settings_of_others_are_mounted_and_none_are_made() -> None:
    values = {"existingConfigMap": {"name": "site", "key": "access.yaml"}}
    for more in ({}, {"settings": POSTGRES}):
        found = resources(values | more)
        volumes = [
            volume["configMap"]
            for each in found
            for pod in pods_of(each)
            for volume in pod.get("volumes", [])
            if volume["name"] == "config"
        ]

        assert "ConfigMap" not in {each["kind"] for each in found}
        assert volumes
        for volume in volumes:
            items = [{"key": "access.yaml", "path": "config.yaml"}]
            assert volume == {"name": "site", "items": items}
    assert "ConfigMap site" in files(values)["NOTES.txt"]


def by_name(values: dict[str, Any], suffix: str) -> dict[str, Resource]:
    found = [each for each in resources(values) if each["metadata"]["name"].endswith(suffix)]
    return {each["kind"]: each for each in found}


def test_the_status_page_is_reached_from_outside_by_a_service_of_its_own() -> None:
    outside = by_name(
        values_of(CHART.parents[1] / "tests/deploy/values/reached-from-outside.yaml"), "-status"
    )
    service, ingress = outside["Service"], outside["Ingress"]["spec"]
    (route,) = ingress["rules"]
    backend = route["http"]["paths"][0]["backend"]["service"]

    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert backend == {"name": service["metadata"]["name"], "port": {"name": "admin"}}
    assert ingress["tls"] == [{"hosts": [route["host"]], "secretName": "forwarder-example-org"}]
    assert by_name(changed(), "-status") == {}
    assert one(changed(), "Service")["spec"]["clusterIP"] == "None"


def test_no_monitor_sees_a_pod_twice_because_of_it() -> None:
    values = changed(settings=GUARDED, service={"type": "NodePort"})
    status = by_name(values, "-status")["Service"]["metadata"]["labels"]
    selector = one(values, "StatefulSet")["spec"]["selector"]["matchLabels"]

    assert not selector.items() <= status.items()


def rules(**values: Any) -> dict[str, dict[str, Any]]:
    found = one(changed(prometheusRule={"enabled": True, **values}), "PrometheusRule")
    all_rules = [rule for group in found["spec"]["groups"] for rule in group["rules"]]
    return {rule.get("alert") or rule["record"]: rule for rule in all_rules}


def test_an_alert_can_be_changed_by_its_name() -> None:
    change = {"threshold": 3600, "for": "1h", "severity": "critical"}
    before, after = (
        rules(),
        rules(alerts={"ForwarderSinkBehind": change}, alertLabels={"team": "a"}),
    )
    rule = after["ForwarderSinkBehind"]

    assert rule["expr"] == "forwarder_sink_oldest_unacknowledged_seconds > 3600"
    assert (rule["for"], rule["labels"]) == ("1h", {"severity": "critical", "team": "a"})
    assert after["ForwarderDown"]["labels"] == {"severity": "critical", "team": "a"}
    assert after["ForwarderDown"]["expr"] == before["ForwarderDown"]["expr"]


def test_every_threshold_is_in_its_alert_once_and_can_be_replaced() -> None:
    thresholds = yaml.safe_load((CHART / "files/thresholds.yaml").read_text(encoding="utf-8"))
    before = rules()
    after = rules(alerts={name: {"threshold": 7.5} for name in thresholds})

    for name, number in thresholds.items():
        assert before[name]["expr"].count(number) == 1, name
        assert re.search(rf"{re.escape(number)}(?![\d.])", before[name]["expr"]), name
        assert after[name]["expr"] == before[name]["expr"].replace(number, f"{number[0]} 7.5")


def test_a_runbook_is_a_link_when_its_place_is_known_and_a_name_when_not() -> None:
    named = rules()["ForwarderDown"]["annotations"]
    linked = rules(runbook="https://wiki.example.org/ops")["ForwarderDown"]["annotations"]

    assert "runbook_url" not in named
    assert named["runbook"] == "docs/operations.md#forwarderdown"
    assert linked["runbook_url"] == "https://wiki.example.org/ops#forwarderdown"
    assert "runbook" not in linked


def test_behind_its_ingress_the_status_page_is_the_runbook() -> None:
    def url(**prometheus_rule: Any) -> str:
        given = {"enabled": True, "host": "forwarder.example.org"}
        rule = {"enabled": True, **prometheus_rule}
        found = one(changed(ingress=given, prometheusRule=rule), "PrometheusRule")
        (down,) = (
            rule
            for group in found["spec"]["groups"]
            for rule in group["rules"]
            if rule.get("alert") == "ForwarderDown"
        )
        return str(down["annotations"]["runbook_url"])

    assert url() == "https://forwarder.example.org/runbook#forwarderdown"
    assert (
        url(runbook="https://wiki.example.org/ops") == "https://wiki.example.org/ops#forwarderdown"
    )


def test_rules_of_the_operator_stand_in_a_group_of_their_own() -> None:
    own = {"record": "site:x", "expr": "1"}

    assert rules(extraRules=[own])["site:x"] == own


def test_extra_objects_are_rendered_as_templates() -> None:
    values = values_of(CHART.parents[1] / "tests/deploy/values/shaped-pod.yaml")

    assert by_name(values, "-extra")["ConfigMap"]["data"] == {"chart": CHART.name}


def test_what_is_half_set_up_is_said_in_the_notes() -> None:
    def notes(**values: Any) -> str:
        return files(changed(**values))["NOTES.txt"]

    behind = {"enabled": True, "host": "forwarder.example.org"}
    assert "has no token" in notes(ingress=behind)
    assert "has no token" not in notes(ingress=behind, settings=GUARDED)
    assert "without rules" in notes(dashboard={"enabled": True})
    assert "without rules" not in notes(
        dashboard={"enabled": True}, prometheusRule={"enabled": True}
    )
    assert "set prometheusRule.runbook" in notes(prometheusRule={"enabled": True})
