"""What the chart decides, and what it refuses."""

from __future__ import annotations

import base64
import copy
import shutil
import tarfile
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from tests.deploy.chart import CHART, NEEDED, changed, files, one, pods_of, resources, values_of
from tests.deploy.pod_security import violations

ACCOUNT = NEEDED["accounts"][0]
POSTGRES = {"journal": {"type": "postgres", "dsn_file": "/run/secrets/forwarder/dsn"}}
VALUES = CHART.parents[1] / "tests/deploy/values"


def container(values: dict[str, Any]) -> dict[str, Any]:
    (found,) = one(values, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def checksum(values: dict[str, Any]) -> str:
    template = one(values, "StatefulSet")["spec"]["template"]
    return str(template["metadata"]["annotations"]["checksum/config"])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (changed(replicas=2), "replicas is 2; with a journal in a file only 1"),
        (
            changed(settings=POSTGRES, persistence={"existingClaim": "old"}),
            "the journal is in the database",
        ),
        (changed(accounts=[]), "accounts is empty: name at least one"),
        (changed(sinks={}), "sinks is empty: name at least one"),
        (changed(terminationGracePeriodSeconds=25), "must be more than the 25 s"),
        (
            changed(serviceMonitor={"enabled": True}, podMonitor={"enabled": True}),
            "every metric would be scraped twice",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(helm.HelmRenderError, match=sentence):
        files(values)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        (changed(nodeselector={}), "nodeselector"),
        (changed(settings={"jornal": {}}), "/settings.*jornal"),
        (changed(settings={"state_dir": "/tmp"}), "state_dir"),
        (changed(settings={"journal": {"max_size": "2 gigabytes"}}), "/settings/journal/max_size"),
        (changed(settings={"admin": {"listen": "127.0.0.1:9464"}}), "/settings/admin/listen"),
        (changed(settings={"admin": {"listen": "off"}}), "/settings/admin/listen"),
        (changed(sinks={"s": {"type": "splunk"}}), "/sinks/s/type"),
        (changed(sinks={"s": {"type": "stdout", "topic": "t"}}), "/sinks/s.*topic"),
        (changed(sinks={"s": {"type": "kafka"}}), "bootstrap_servers"),
        (changed(accounts=[{"name": "acme"}]), "/accounts/0.*account_id"),
        (changed(accounts=[ACCOUNT | {"retention": "a day"}]), "/accounts/0/retention"),
        (changed(image={"digest": "sha256:abc"}), "/image/digest"),
        (changed(secrets={"inline": {"a/b": "c"}}), "'a/b' does not match"),
    ],
)
def test_a_misspelt_value_is_found_before_anything_is_installed(
    values: dict[str, Any], place: str
) -> None:
    with pytest.raises(helm.HelmValuesError, match=place):
        files(values)


def test_a_secret_may_not_end_in_the_config_map() -> None:
    plain = {"account_id": "a", "api_token": "t0ken"}
    with pytest.raises(helm.HelmValuesError, match="/accounts/0/api_token"):
        files(changed(accounts=[plain]))

    assert (
        "${TOKEN}" in files(changed(accounts=[plain | {"api_token": "${TOKEN}"}]))["configmap.yaml"]
    )


def test_a_header_may_not_end_in_the_config_map() -> None:
    hook = {"type": "http", "url": "https://hook"}
    with pytest.raises(helm.HelmValuesError, match="/sinks/hook/headers/X-Key"):
        files(changed(sinks={"hook": hook | {"headers": {"X-Key": "s3cret"}}}))

    headers = {"X-Key_file": "/run/secrets/key", "X-Other": "${OTHER}"}
    config = files(changed(sinks={"hook": hook | {"headers": headers}}))["configmap.yaml"]
    assert "X-Key_file: /run/secrets/key" in config
    assert "X-Other: ${OTHER}" in config


def test_plugins_of_third_parties_need_no_change_of_templates() -> None:
    sinks = {"own": {"type": "carrier_pigeon", "loft": "north"}}
    with pytest.raises(helm.HelmValuesError, match="/sinks/own/type"):
        files(changed(sinks=sinks))

    assert "carrier_pigeon" in files(changed(sinks=sinks, thirdPartyPlugins=True))["configmap.yaml"]


def test_new_settings_restart_the_pod_and_new_secrets_do_not() -> None:
    before = checksum(NEEDED)

    assert checksum(changed(settings={"log": {"level": "debug"}})) != before
    assert checksum(changed(sinks={"other": {"type": "stdout"}})) != before
    assert checksum(changed(secrets={"inline": {"token": "new"}})) == before
    assert checksum(changed(podAnnotations={"a": "b"})) == before


def test_inline_secrets_become_files_beside_those_of_an_existing_secret() -> None:
    values = changed(secrets={"inline": {"token": "t0ken"}, "existingSecret": "site"})
    secret = one(values, "Secret")
    pod = one(values, "StatefulSet")["spec"]["template"]["spec"]
    (volume,) = (each["projected"] for each in pod["volumes"] if each["name"] == "secrets")

    assert base64.b64decode(secret["data"]["token"]) == b"t0ken"
    assert [source["secret"]["name"] for source in volume["sources"]] == [
        secret["metadata"]["name"],
        "site",
    ]
    assert volume["defaultMode"] == 0o440


def test_no_secret_is_made_or_mounted_when_none_is_named() -> None:
    mounts = {mount["name"] for mount in container(NEEDED)["volumeMounts"]}

    assert "Secret" not in {each["kind"] for each in resources(NEEDED)}
    assert mounts == {"config", "state", "tmp"}


def test_the_probes_ask_the_right_questions() -> None:
    found = container(NEEDED)
    paths = {
        kind: found[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "liveness", "readiness")
    }

    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert {mount["mountPath"] for mount in found["volumeMounts"]} >= {"/var/lib/forwarder"}


def test_the_port_follows_the_address() -> None:
    values = changed(settings={"admin": {"listen": "[::]:8080"}})
    (port,) = one(values, "Service")["spec"]["ports"]

    assert container(values)["ports"] == [
        {"name": "admin", "containerPort": 8080, "protocol": "TCP"}
    ]
    assert port["port"] == 8080


def test_everything_speaks_https_when_the_admin_server_does(tmp_path: Path) -> None:
    """The copy has no schema, since the key of the settings is not what is tested."""
    unchecked = tmp_path / CHART.name
    shutil.copytree(CHART, unchecked, ignore=shutil.ignore_patterns("values.schema.json"))
    tls = {"cert_file": "/run/secrets/forwarder/tls.crt"}
    values = changed(settings={"admin": {"tls": tls}}, serviceMonitor={"enabled": True})
    with helm.Chart.load(unchecked) as chart:
        rendered = {Path(name).name: text for name, text in chart.render(values).items()}

    assert rendered["statefulset.yaml"].count("scheme: HTTPS") == 3
    assert "scheme: https" in rendered["servicemonitor.yaml"]
    assert "https://" in rendered["ready.yaml"]
    assert "https://127.0.0.1:9464/" in rendered["NOTES.txt"]


def test_the_package_has_all_that_the_templates_read(tmp_path: Path) -> None:
    archive = helm.package(CHART, destination=str(tmp_path))

    with tarfile.open(archive) as packed:
        names = {Path(name).relative_to(CHART.name).as_posix() for name in packed.getnames()}
    wanted = {"Chart.yaml", "values.yaml", "values.schema.json", "templates/NOTES.txt"}
    wanted |= {f"files/{name}" for name in ("alerts.yaml", "recording.yaml", "dashboard.json")}
    assert wanted <= names


def test_the_pod_has_longer_to_stop_than_the_forwarder_takes() -> None:
    spec = one(NEEDED, "StatefulSet")["spec"]["template"]["spec"]

    assert spec["terminationGracePeriodSeconds"] > 25


def test_the_root_file_system_is_read_only_and_what_is_written_has_a_volume() -> None:
    stateful_set = one(NEEDED, "StatefulSet")["spec"]
    mounts = {
        mount["name"]: mount["mountPath"]
        for mount in container(NEEDED)["volumeMounts"]
        if not mount.get("readOnly")
    }
    claims = [claim["metadata"]["name"] for claim in stateful_set["volumeClaimTemplates"]]

    assert container(NEEDED)["securityContext"]["readOnlyRootFilesystem"] is True
    assert mounts == {"state": "/var/lib/forwarder", "tmp": "/tmp"}
    assert claims == ["state"]


@pytest.mark.parametrize(
    ("persistence", "source"),
    [
        ({"enabled": False}, {"emptyDir": {"sizeLimit": "8Gi"}}),
        ({"existingClaim": "old"}, {"persistentVolumeClaim": {"claimName": "old"}}),
    ],
)
def test_the_state_may_lie_elsewhere(persistence: dict[str, Any], source: dict[str, Any]) -> None:
    stateful_set = one(changed(persistence=persistence), "StatefulSet")["spec"]
    (volume,) = (
        each for each in stateful_set["template"]["spec"]["volumes"] if each["name"] == "state"
    )

    assert volume == {"name": "state"} | source
    assert "volumeClaimTemplates" not in stateful_set


def test_containers_and_labels_of_the_operator_stand_beside_ours() -> None:
    values = changed(
        extraInitContainers=[{"name": "wait", "image": "busybox"}],
        extraContainers=[{"name": "tunnel", "image": "tunnel"}],
        commonLabels={"team": "security"},
    )
    pod = one(values, "StatefulSet")["spec"]["template"]["spec"]

    assert [each["name"] for each in pod["initContainers"]] == ["wait"]
    assert [each["name"] for each in pod["containers"]] == ["forwarder", "tunnel"]
    labels = [each["metadata"]["labels"] for each in resources(values)]
    assert all(each["team"] == "security" for each in labels)


def test_nobody_gets_a_token_of_the_cluster() -> None:
    pods = [
        pod
        for values in (NEEDED, changed(settings=POSTGRES))
        for each in resources(values)
        for pod in pods_of(each)
    ]

    assert [pod["automountServiceAccountToken"] for pod in pods] == [False] * 5
    assert one(NEEDED, "ServiceAccount")["automountServiceAccountToken"] is False


def test_a_drain_is_never_blocked() -> None:
    assert one(NEEDED, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_replicas_of_a_journal_in_postgresql_have_no_volume_and_one_may_always_go() -> None:
    values = changed(settings=POSTGRES)
    spec = one(values, "Deployment")["spec"]
    (state,) = (each for each in spec["template"]["spec"]["volumes"] if each["name"] == "state")
    kinds = {each["kind"] for each in resources(values)}

    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert state == {"name": "state", "emptyDir": {"sizeLimit": "64Mi"}}
    assert one(values, "PodDisruptionBudget")["spec"]["minAvailable"] == 1
    assert kinds.isdisjoint({"StatefulSet", "PersistentVolumeClaim"})
    assert "deployment/demo-cloudflare-access-forwarder" in files(values)["NOTES.txt"]
    assert (
        "WARNING"
        not in files(changed(settings=POSTGRES, persistence={"enabled": False}))["NOTES.txt"]
    )


def test_replicas_are_spread_over_nodes_and_zones_unless_told_otherwise() -> None:
    own = {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway"}
    found = [
        one(changed(settings=POSTGRES, **more), "Deployment")["spec"]["template"]["spec"]
        for more in ({}, {"topologySpreadConstraints": [own]})
    ]
    spread = {
        each["topologyKey"]: each["whenUnsatisfiable"]
        for each in found[0]["topologySpreadConstraints"]
    }

    assert spread == {
        "kubernetes.io/hostname": "DoNotSchedule",
        "topology.kubernetes.io/zone": "ScheduleAnyway",
    }
    assert found[1]["topologySpreadConstraints"] == [own]


def test_a_job_makes_the_tables_before_anything_else_is_there() -> None:
    """So its settings and secrets are its own, and no selector of the forwarder finds its pod."""
    values = changed(settings=POSTGRES, secrets={"inline": {"dsn": "host=db"}})
    job = one(values, "Job")
    own = [
        each for each in resources(values) if each["metadata"]["name"] == job["metadata"]["name"]
    ]
    pod = job["spec"]["template"]
    volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
    hooks = [each["metadata"]["annotations"] for each in own]

    assert {each["kind"] for each in own} == {"ConfigMap", "Secret", "Job"}
    assert {each["helm.sh/hook"] for each in hooks} == {"pre-install,pre-upgrade"}
    assert [each["helm.sh/hook-weight"] for each in hooks] == ["-1", "-1", "0"]
    assert pod["spec"]["containers"][0]["args"] == ["journal", "create"]
    assert volumes["config"]["configMap"]["name"] == job["metadata"]["name"]
    assert volumes["secrets"]["projected"]["sources"] == [
        {"secret": {"name": job["metadata"]["name"]}}
    ]
    assert "serviceAccountName" not in pod["spec"]
    selector = one(values, "Deployment")["spec"]["selector"]["matchLabels"]
    assert not selector.items() <= pod["metadata"]["labels"].items()


def test_the_job_can_be_left_to_an_administrator() -> None:
    values = changed(settings=POSTGRES, journalJob={"enabled": False})

    assert "Job" not in {each["kind"] for each in resources(values)}


def test_selectors_find_the_forwarder_and_not_the_test_pod() -> None:
    stateful_set, test = one(NEEDED, "StatefulSet"), one(NEEDED, "Pod")
    labels = stateful_set["spec"]["template"]["metadata"]["labels"]
    selectors = [
        stateful_set["spec"]["selector"]["matchLabels"],
        one(NEEDED, "Service")["spec"]["selector"],
        one(NEEDED, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(NEEDED, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]

    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not selector.items() <= test["metadata"]["labels"].items()


def test_egress_is_narrowed_when_destinations_are_named_and_keeps_dns() -> None:
    rule = {"ports": [{"port": 443}]}
    policy = one(changed(networkPolicy={"egress": [rule]}), "NetworkPolicy")["spec"]

    assert one(NEEDED, "NetworkPolicy")["spec"]["egress"] == [{}]
    assert policy["egress"][1:] == [rule]
    assert {port["port"] for port in policy["egress"][0]["ports"]} == {53}


@pytest.mark.parametrize("name", ["service-monitor", "pod-monitor"])
def test_a_monitor_has_the_shape_that_the_operator_takes(name: str) -> None:
    values = values_of(VALUES / f"{name}.yaml")
    kind, key = {
        "service-monitor": ("ServiceMonitor", "endpoints"),
        "pod-monitor": ("PodMonitor", "podMetricsEndpoints"),
    }[name]
    monitor = one(values, kind)
    (endpoint,) = monitor["spec"][key]

    assert monitor["spec"].keys() == {"selector", key}
    passed = {"authorization", "metricRelabelings", "relabelings", "tlsConfig"}
    assert endpoint.keys() - passed == {"port", "path", "interval", "scrapeTimeout", "scheme"}
    monitored = values["serviceMonitor" if name == "service-monitor" else "podMonitor"]
    assert {key: endpoint[key] for key in passed} == {key: monitored[key] for key in passed}
    assert (endpoint["port"], endpoint["path"], endpoint["scheme"]) == ("admin", "/metrics", "http")
    labels = one(values, "Service")["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_rules_arrive_whole_but_for_what_is_left_out() -> None:
    wiki = "https://wiki.example.org/forwarder"
    given = {"enabled": True, "disabled": ["ForwarderRowsReshaped"], "runbook": wiki}
    groups = one(changed(prometheusRule=given), "PrometheusRule")["spec"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    written = [
        rule
        for name in ("recording", "alerts")
        for group in yaml.safe_load((CHART / f"files/{name}.yaml").read_text())["groups"]
        for rule in group["rules"]
        if rule.get("alert") != "ForwarderRowsReshaped"
    ]

    assert [rule["expr"] for rule in rules] == [rule["expr"] for rule in written]
    assert {group.keys() - {"interval"} == {"name", "rules"} for group in groups} == {True}
    alerts = [rule for rule in rules if "alert" in rule]
    assert len(alerts) > 15
    for alert in alerts:
        assert alert["annotations"]["runbook_url"].startswith(f"{wiki}#")


def test_an_objective_of_the_values_replaces_the_one_of_the_rules() -> None:
    values = values_of(VALUES / "service-monitor.yaml")
    values["prometheusRule"]["objectives"] = {"delivery": 0.999}
    rules = [
        rule for group in one(values, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]
    ]
    shares = {rule["record"]: rule["expr"] for rule in rules if "record" in rule}

    assert shares["objective:forwarder_freshness:ratio"] == "0.99"
    assert shares["objective:forwarder_delivery:ratio"] == "0.999"


def test_the_dashboard_arrives_as_it_is() -> None:
    values = values_of(VALUES / "service-monitor.yaml")
    (found,) = (
        each["data"]["cloudflare-access-forwarder.json"]
        for each in resources(values)
        if each["metadata"]["name"].endswith("-dashboard")
    )

    assert found.strip() == (CHART / "files/dashboard.json").read_text().strip()


def test_the_notes_say_what_to_do_next_and_warn() -> None:
    trial = changed(persistence={"enabled": False}, secrets={"inline": {"a": "b"}})

    assert "port-forward demo-cloudflare-access-forwarder-0 9464" in files(NEEDED)["NOTES.txt"]
    assert "WARNING" not in files(NEEDED)["NOTES.txt"]
    assert files(trial)["NOTES.txt"].count("WARNING") == 2


@pytest.mark.parametrize(
    ("change", "violation"),
    [
        (lambda pod: pod.update(hostNetwork=True), "hostNetwork is set"),
        (
            lambda pod: pod["volumes"].append({"name": "v", "hostPath": {}}),
            "volume v is a hostPath",
        ),
        (lambda pod: pod["securityContext"].pop("runAsNonRoot"), "forwarder may be root"),
        (lambda pod: pod["securityContext"].update(runAsUser=0), "forwarder is root"),
        (lambda pod: pod["securityContext"].pop("seccompProfile"), "has no seccomp profile"),
        (lambda pod: pod["containers"][0].pop("securityContext"), "forwarder keeps capabilities"),
        (
            lambda pod: pod["containers"][0]["securityContext"].update(privileged=True),
            "forwarder is privileged",
        ),
    ],
)
def test_a_breach_of_the_restricted_profile_is_seen(change: Any, violation: str) -> None:
    pod = copy.deepcopy(one(NEEDED, "StatefulSet")["spec"]["template"]["spec"])
    change(pod)

    assert violation in " ".join(violations(pod))


def test_cloudflare_reaches_the_receiver_and_nothing_else() -> None:
    values = values_of(VALUES / "logpush.yaml")
    found = {
        one["kind"]: one
        for one in resources(values)
        if one["metadata"]["name"].endswith("-logpush")
    }
    ports = {port["name"]: port["containerPort"] for port in container(values)["ports"]}
    rules = {
        rule["ports"][0]["port"]: rule["from"]
        for rule in one(values, "NetworkPolicy")["spec"]["ingress"]
    }
    (port,) = found["Service"]["spec"]["ports"]
    (route,) = found["Ingress"]["spec"]["rules"]

    assert ports["logpush"] == 9465
    assert (443, "logpush") == (port["port"], port["targetPort"])
    assert route["host"] == "push.example.com"
    assert (
        route["http"]["paths"][0]["backend"]["service"]["name"]
        == found["Service"]["metadata"]["name"]
    )
    assert rules["logpush"] == values["logpush"]["from"]


def test_without_a_receiver_nothing_is_opened() -> None:
    found = resources(NEEDED)

    assert not [one for one in found if one["metadata"]["name"].endswith("-logpush")]
    assert ["admin"] == [port["name"] for port in container(NEEDED)["ports"]]


def test_replicas_pass_pushes_on_to_each_other_and_nobody_else_is_let_in() -> None:
    values = values_of(VALUES / "postgres-logpush.yaml")
    config = next(each for each in resources(values) if each["kind"] == "ConfigMap")
    deployment = one(values, "Deployment")["spec"]
    (own,) = deployment["template"]["spec"]["containers"]
    fields = {each["name"]: each.get("valueFrom") for each in own["env"]}
    policy = one(values, "NetworkPolicy")["spec"]
    (inward,) = (each for each in policy["ingress"] if each["ports"][0]["port"] == "logpush")
    (outward,) = (each for each in policy["egress"] if each["ports"][0]["port"] == "logpush")
    replicas = {"podSelector": deployment["selector"]}

    assert yaml.safe_load(config["data"]["config.yaml"])["logpush"]["peer"] == {
        "host": "${POD_IP}",
        "tls": {"server_name": "push.example.com"},
    }
    assert fields["POD_IP"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert inward["from"] == [*values["logpush"]["from"], replicas]
    assert outward["to"] == [replicas]
    assert "POD_IP" not in [each["name"] for each in container(NEEDED)["env"]]
