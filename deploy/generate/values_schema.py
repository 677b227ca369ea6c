"""The JSON schema of the chart's values: the settings file's own schema, and the chart's keys.

Draft 7, since older releases of Helm know nothing newer. Pure.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import yaml

from deploy.generate.kubernetes_shapes import SHAPES

Schema: TypeAlias = dict[str, Any]

_NARROWER: dict[str, Schema] = {
    "replicas": {"type": ["integer", "null"], "minimum": 0},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.tag": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{0,128}$"},
    "secrets.mountPath": {"type": "string", "pattern": "^/."},
    "secrets.inline": {
        "type": "object",
        "propertyNames": {"pattern": "^[A-Za-z0-9._-]{1,253}$"},
        "additionalProperties": {"type": ["string", "number"]},
    },
    "persistence.size": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?([KMGT]i?)?$"},
    "persistence.retentionPolicy.whenDeleted": {"enum": ["Retain", "Delete"]},
    "persistence.retentionPolicy.whenScaled": {"enum": ["Retain", "Delete"]},
    "existingConfigMap.key": {"type": "string", "minLength": 1},
    "prometheusRule.runbook": {"type": "string", "pattern": r"^(https?://\S+)?$"},
}
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
_OWN_KEYS = {"version", "state_dir", "accounts", "sinks"}
_VARIABLE = r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$"
_SOME_VARIABLE = r"\$\{[A-Za-z_]"
_LISTEN: Schema = {
    "type": "string",
    "pattern": r"^\S+:[1-9][0-9]{0,4}$",
    "not": {"pattern": r"^(127\.|localhost|\[::1\])"},
    "description": "host:port in the pod; probes and Prometheus come from outside of it",
}


def values_schema(
    values: str, settings: Schema, alerts: Sequence[str] = (), thresholds: Collection[str] = ()
) -> Schema:
    """Return the schema for a chart with these default ``values`` (the text of values.yaml).

    ``settings`` is the schema of the settings file as ``forwarder config schema`` prints it,
    ``alerts`` are the names of all alerts, ``thresholds`` of those whose number may be changed.
    """
    ours = _renamed(_without_plain_secrets(copy.deepcopy(settings)))
    root = _from_default("", yaml.safe_load(values))
    rules = root["properties"]["prometheusRule"]["properties"]
    rules["disabled"] = {"type": "array", "items": {"enum": list(alerts)}}
    rules["alerts"] = _changes_of_alerts(alerts, thresholds)
    root["properties"]["settings"] = _rest_of_the_settings(ours)
    root["properties"]["global"] = {"type": "object"}
    for listener in ("AdminSettings", "LogpushSettings"):
        ours["definitions"][listener]["properties"]["listen"] = _LISTEN
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart cloudflare-access-forwarder",
        **root,
        "if": {"properties": {"thirdPartyPlugins": {"const": True}}},
        "else": {
            "properties": {
                "accounts": {"type": "array", "items": ours["properties"]["accounts"]["items"]},
                "sinks": {"type": "object", "additionalProperties": _sink(ours)},
            }
        },
        "definitions": ours["definitions"],
    }


def _from_default(path: str, value: Any) -> Schema:
    """Return what may replace a default: the same type, and no key that the chart ignores."""
    if path in _NARROWER or path in SHAPES:
        return _NARROWER.get(path) or SHAPES[path]
    if not isinstance(value, dict):
        return {"type": _TYPES[type(value)]}
    if not value:
        return {"type": "object"}
    below = {key: _from_default(f"{path}.{key}".lstrip("."), item) for key, item in value.items()}
    return {"type": "object", "additionalProperties": False, "properties": below}


def _changes_of_alerts(alerts: Sequence[str], thresholds: Collection[str]) -> Schema:
    change: Schema = {
        "for": {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"},
        "severity": {"type": "string", "minLength": 1},
    }
    number: Schema = {"threshold": {"type": "number"}}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {
                "type": "object",
                "additionalProperties": False,
                "properties": change | number if name in thresholds else change,
            }
            for name in alerts
        },
    }


def _rest_of_the_settings(ours: Schema) -> Schema:
    keys = {key: item for key, item in ours["properties"].items() if key not in _OWN_KEYS}
    return {"type": "object", "additionalProperties": False, "properties": keys}


def _sink(ours: Schema) -> Schema:
    """Return ``oneOf`` over the types as one ``if`` a type, so that a fault names its key."""
    variants = ours["properties"]["sinks"]["additionalProperties"]["oneOf"]
    names = [variant["properties"]["type"]["const"] for variant in variants]
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": names}},
        "allOf": [
            {"if": {"properties": {"type": {"const": name}}}, "then": variant}
            for name, variant in zip(names, variants, strict=True)
        ],
    }


def _without_plain_secrets(node: Any) -> Any:
    """Let a secret be a variable or a file: what stands here ends in a ConfigMap.

    Any other text may hold variables, too, whatever its pattern.
    """
    if isinstance(node, list):
        return [_without_plain_secrets(item) for item in node]
    if not isinstance(node, dict):
        return node
    changed = {key: _without_plain_secrets(item) for key, item in node.items()}
    if changed.get("type") == "string" and "pattern" in changed:
        changed["pattern"] = f"(?:{changed['pattern']})|{_SOME_VARIABLE}"
    keys: Schema = changed.get("properties", {})
    for key in list(keys):
        if keys.get(f"{key}_file", {}).get("description") == f"file that holds {key}":
            keys[key] = _as_variable(keys[key], key)
        elif "_file$" in keys[key].get("patternProperties", {}):
            keys[key]["additionalProperties"] = _as_variable({}, "NAME")
    return changed


def _as_variable(secret: Schema, key: str) -> Schema:
    return {
        "type": ["string", "null"],
        "pattern": _VARIABLE,
        "description": f"{secret.get('description', key)}; here only as a variable out of "
        f"extraEnv, or as {key}_file: these settings are stored in a ConfigMap",
    }


def _renamed(node: Any) -> Any:
    """Return the tree with draft 7's name for definitions, and without titles."""
    if isinstance(node, list):
        return [_renamed(item) for item in node]
    if not isinstance(node, dict):
        return node
    result = {}
    for key, item in node.items():
        if key == "title" and isinstance(item, str):
            continue
        if key == "$ref":
            result[key] = item.replace("#/$defs/", "#/definitions/")
        else:
            result["definitions" if key == "$defs" else key] = _renamed(item)
    return result
