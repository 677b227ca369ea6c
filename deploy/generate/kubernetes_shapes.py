"""Shapes of what Kubernetes or Prometheus own in the chart's values. Pure data.

Close enough to find a slip before the cluster does, and open to keys of newer versions where the
cluster checks them anyway.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

_LABEL = "^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$"
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|[kKMGTPE]i?)?$"


def _of(required: list[str], closed: bool = False, **keys: Schema) -> Schema:  # noqa: FBT001, FBT002 - reads as a shape
    """Return an object that needs ``required``, with the types of ``keys`` and perhaps others."""
    more: Schema = {"additionalProperties": False} if closed else {}
    needed: Schema = {"required": required} if required else {}
    return {"type": "object", **needed, "properties": keys, **more}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1}
_INTEGER: Schema = {"type": "integer"}
_OBJECT: Schema = {"type": "object"}
LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string", "pattern": _LABEL}}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
AMOUNT: Schema = {
    "anyOf": [
        {"type": ["integer", "null"], "minimum": 0},
        {"type": "string", "pattern": "^[0-9]+%$"},
    ]
}
_QUANTITIES: Schema = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [{"type": "number"}, {"type": "string", "pattern": _QUANTITY}]
    },
}
_PROBE = _of(
    [],
    closed=True,
    initialDelaySeconds=_INTEGER,
    periodSeconds=_INTEGER,
    timeoutSeconds=_INTEGER,
    successThreshold=_INTEGER,
    failureThreshold=_INTEGER,
    terminationGracePeriodSeconds=_INTEGER,
)
_CONTAINERS = _list(_of(["name", "image"], name=NAME, image=NAME))
_RELABELINGS = _list(
    _of(
        [],
        closed=True,
        sourceLabels=_list(TEXT),
        separator=TEXT,
        targetLabel=TEXT,
        regex=TEXT,
        modulus=_INTEGER,
        replacement=TEXT,
        action=TEXT,
    )
)
_POLICY_PEERS = _list(
    _of([], closed=True, namespaceSelector=_OBJECT, podSelector=_OBJECT, ipBlock=_OBJECT)
)

SHAPES: dict[str, Schema] = {
    "commonLabels": LABELS,
    "podLabels": LABELS,
    "serviceMonitor.labels": LABELS,
    "podMonitor.labels": LABELS,
    "prometheusRule.labels": LABELS,
    "dashboard.labels": LABELS,
    "nodeSelector": LABELS,
    "podAnnotations": TEXTS,
    "workloadAnnotations": TEXTS,
    "serviceAccount.annotations": TEXTS,
    "service.annotations": TEXTS,
    "ingress.annotations": TEXTS,
    "dashboard.annotations": TEXTS,
    "persistence.annotations": TEXTS,
    "logpush.service.annotations": TEXTS,
    "logpush.ingress.annotations": TEXTS,
    "prometheusRule.alertLabels": TEXTS,
    "persistence.accessModes": _list(
        {"enum": ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"]}
    ),
    "imagePullSecrets": _list(_of(["name"], closed=True, name=NAME)),
    "extraEnv": _list(_of(["name"], closed=True, name=NAME, value=TEXT, valueFrom=_OBJECT)),
    "extraEnvFrom": _list(
        _of([], closed=True, prefix=TEXT, configMapRef=_OBJECT, secretRef=_OBJECT)
    ),
    "extraVolumes": _list(_of(["name"], name=NAME)),
    "extraVolumeMounts": _list(_of(["name", "mountPath"], name=NAME, mountPath=NAME)),
    "extraContainers": _CONTAINERS,
    "extraInitContainers": _CONTAINERS,
    "extraObjects": _list(
        {"anyOf": [TEXT, _of(["apiVersion", "kind"], apiVersion=NAME, kind=NAME)]}
    ),
    "resources": _of(
        [], closed=True, requests=_QUANTITIES, limits=_QUANTITIES, claims=_list(_OBJECT)
    ),
    "probes.startup": _PROBE,
    "probes.liveness": _PROBE,
    "probes.readiness": _PROBE,
    "podSecurityContext": _OBJECT,
    "securityContext": _OBJECT,
    "tolerations": _list(
        _of(
            [],
            closed=True,
            key=TEXT,
            operator=TEXT,
            value=TEXT,
            effect=TEXT,
            tolerationSeconds=_INTEGER,
        )
    ),
    "affinity": _of(
        [], closed=True, nodeAffinity=_OBJECT, podAffinity=_OBJECT, podAntiAffinity=_OBJECT
    ),
    "topologySpreadConstraints": _list(
        _of(
            ["maxSkew", "topologyKey", "whenUnsatisfiable"],
            maxSkew=_INTEGER,
            topologyKey=NAME,
            whenUnsatisfiable={"enum": ["DoNotSchedule", "ScheduleAnyway"]},
        )
    ),
    "updateStrategy": _of(
        [],
        closed=True,
        type={"enum": ["RollingUpdate", "OnDelete", "Recreate"]},
        rollingUpdate=_OBJECT,
    ),
    "lifecycle": _of([], closed=True, preStop=_OBJECT, postStart=_OBJECT, stopSignal=TEXT),
    "dnsPolicy": {"enum": ["", "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]},
    "dnsConfig": _of(
        [],
        closed=True,
        nameservers=_list(TEXT),
        searches=_list(TEXT),
        options=_list(_of(["name"], closed=True, name=NAME, value=TEXT)),
    ),
    "hostAliases": _list(_of(["ip", "hostnames"], closed=True, ip=NAME, hostnames=_list(NAME))),
    "networkPolicy.ingressFrom": _POLICY_PEERS,
    "networkPolicy.egress": _list(_of([], closed=True, to=_POLICY_PEERS, ports=_list(_OBJECT))),
    "logpush.from": _POLICY_PEERS,
    "serviceMonitor.relabelings": _RELABELINGS,
    "serviceMonitor.metricRelabelings": _RELABELINGS,
    "podMonitor.relabelings": _RELABELINGS,
    "podMonitor.metricRelabelings": _RELABELINGS,
    "prometheusRule.extraRules": _list(
        {
            "anyOf": [
                _of(["alert", "expr"], alert=NAME, expr=NAME),
                _of(["record", "expr"], record=NAME, expr=NAME),
            ]
        }
    ),
    "podDisruptionBudget.minAvailable": AMOUNT,
    "podDisruptionBudget.maxUnavailable": AMOUNT,
    "podDisruptionBudget.unhealthyPodEvictionPolicy": {
        "enum": ["", "AlwaysAllow", "IfHealthyBudget"]
    },
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "logpush.service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "logpush.service.port": {"type": "integer", "minimum": 1, "maximum": 65535},
}
