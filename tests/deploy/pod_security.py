"""The restricted Pod Security Standard, as far as a pod's spec can break it. Pure.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_HOST = ("hostNetwork", "hostPID", "hostIPC")


def violations(spec: dict[str, Any]) -> list[str]:
    """Return what keeps a pod out of a namespace that enforces the restricted profile."""
    return [*_of_pod(spec), *(fault for one in _containers(spec) for fault in _of(one, spec))]


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [container for kind in kinds for container in spec.get(kind, [])]


def _of_pod(spec: dict[str, Any]) -> Iterator[str]:
    yield from (f"{key} is set" for key in _HOST if spec.get(key))
    if spec.get("securityContext", {}).get("sysctls"):
        yield "sysctls are set"
    for volume in spec.get("volumes", []):
        for kind in volume.keys() - {"name"} - _VOLUMES:
            yield f"volume {volume['name']} is a {kind}"


def _of(container: dict[str, Any], spec: dict[str, Any]) -> Iterator[str]:
    name, own = container["name"], container.get("securityContext", {})
    effective = spec.get("securityContext", {}) | own
    capabilities = own.get("capabilities", {})
    checks = {
        "is privileged": own.get("privileged", False),
        "may gain privileges": own.get("allowPrivilegeEscalation", True),
        "keeps capabilities": "ALL" not in capabilities.get("drop", []),
        "adds capabilities": set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"},
        "may be root": not effective.get("runAsNonRoot", False),
        "is root": effective.get("runAsUser") == 0,
        "has no seccomp profile": effective.get("seccompProfile", {}).get("type")
        not in {"RuntimeDefault", "Localhost"},
        "has a procMount": own.get("procMount", "Default") != "Default",
        "has a host port": any("hostPort" in port for port in container.get("ports", [])),
    }
    yield from (f"{name} {fault}" for fault, broken in checks.items() if broken)
