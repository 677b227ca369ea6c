"""The settings as others see them: their JSON Schema for editors and tools, and what is in force.

What is in force has its defaults filled in, and secrets and credentials masked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import yaml
from pydantic import BaseModel

from forwarder.config.models import ForwarderSettings, RootSettings, SinkOptions
from forwarder.config.plugins import Kind, PluginError, Plugins
from forwarder.transport.settings import CREDENTIALS, REDACTED, Secret

Schema: TypeAlias = dict[str, Any]

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE: Schema = {"type": "string", "pattern": r"\$\{"}
_NOT_TEXT = {"integer", "number", "boolean"}
_NAMED = {"properties", "$defs"}
_ABOUT = ("title", "description", "default")
_REFERENCE = "#/$defs/{model}"


def json_schema(plugins: Plugins) -> Schema:
    """Return the schema of the whole file, with every plugin that can be imported."""
    definitions: Schema = {}
    root = _object(definitions, RootSettings)
    accounts = [
        _typed(_object(definitions, plugin.Config), name, optional=name == "cloudflare_access")
        for name, plugin in _loaded(plugins, "sources")
    ]
    formats = _loaded(plugins, "formats")
    sinks = [
        _sink(definitions, name, plugin, formats) for name, plugin in _loaded(plugins, "sinks")
    ]
    root["properties"]["accounts"] = {
        "type": "array",
        "minItems": 1,
        "items": accounts[0] if len(accounts) == 1 else {"anyOf": accounts},
    }
    root["properties"]["sinks"] = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"oneOf": sinks},
    }
    root["required"] = ["version", "accounts", "sinks"]
    whole = {"$schema": _DRAFT, "title": "Settings of forwarder", **root, "$defs": definitions}
    described: Schema = _changed(whole, _allow_variable)
    return described


def _loaded(plugins: Plugins, kind: Kind) -> list[tuple[str, Any]]:
    found = []
    for name in plugins.names(kind):
        try:
            found.append((name, plugins.load(kind, name)))
        except PluginError:
            # `forwarder plugins` shows why; the schema describes what can be used.
            continue
    return found


def _sink(definitions: Schema, name: str, plugin: Any, formats: list[tuple[str, Any]]) -> Schema:
    """Merge a sink's own keys, those of all sinks, and those of the formats."""
    merged = _object(definitions, plugin.Config)
    # Any format may be chosen, so the keys of all are allowed.
    properties: Schema = {}
    for _, writer in formats:
        properties |= _object(definitions, writer.Config)["properties"]
    merged["properties"] = (
        properties | merged["properties"] | _object(definitions, SinkOptions)["properties"]
    )
    merged["properties"]["format"] = {
        "enum": [format_name for format_name, _ in formats],
        "default": plugin.default_format,
        "description": "how events are written",
    }
    return _typed(merged, name, optional=False)


def _typed(schema: Schema, name: str, *, optional: bool) -> Schema:
    schema["properties"] = {"type": {"const": name}, **schema["properties"]}
    if not optional:
        schema["required"] = ["type", *schema.get("required", [])]
    return schema


def _object(definitions: Schema, model: type[BaseModel]) -> Schema:
    """Return a model's schema; models inside it go to the shared definitions."""
    schema = model.model_json_schema(ref_template=_REFERENCE, by_alias=True)
    definitions |= schema.pop("$defs", {})
    schema.pop("title", None)
    return schema


def _allow_variable(schema: Schema) -> Schema:
    """Also allow a variable wherever a number or a truth value is expected."""
    if schema.get("type") not in _NOT_TEXT and not _closed(schema):
        return schema
    about: Schema = {key: schema.pop(key) for key in _ABOUT if key in schema}
    return {**about, "anyOf": [schema, _VARIABLE]}


def _closed(schema: Schema) -> bool:
    return "enum" in schema and all(isinstance(word, str) for word in schema["enum"])


def _changed(node: Any, change: Callable[[Schema], Schema]) -> Any:
    """Apply ``change`` to every schema in the tree, innermost first."""
    if isinstance(node, list):
        return [_changed(item, change) for item in node]
    if not isinstance(node, dict):
        return node
    deeper = {
        key: {name: _changed(inner, change) for name, inner in item.items()}
        if key in _NAMED
        else _changed(item, change)
        for key, item in node.items()
    }
    return change(deeper)


_SENSITIVE = re.compile(r"(?i)authorization|cookie|token|secret|password|passwd|api[-_]?key")
_URL = re.compile(r"(https?://[^/?#\s]+)(/[^/].*|/?\?.*)")


def effective(settings: ForwarderSettings) -> dict[str, Any]:
    """Return the settings as plain values, as they could be written in the file."""
    return {
        **_plain(settings.root),
        "accounts": [
            {"type": account.type, **_plain(account.config)} for account in settings.accounts
        ],
        "sinks": {
            sink.name: {
                "type": sink.type,
                **_plain(sink.config),
                **_plain(sink.format_config),
                **_plain(sink.options),
                "format": sink.format,
            }
            for sink in settings.sinks
        },
    }


def as_yaml(settings: ForwarderSettings) -> str:
    """Return the effective settings as YAML, without paths and queries of the sinks' URLs.

    A webhook's path or query is often all that protects it. The hash of the settings keeps them,
    so that a changed path is seen there.
    """
    shown = effective(settings)
    shown["sinks"] = _without_paths(shown["sinks"])
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=100)


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    found = _URL.fullmatch(value) if isinstance(value, str) else None
    return f"{found[1]}/{REDACTED}" if found else value


def _plain(model: BaseModel) -> dict[str, Any]:
    """Return a model as it is written in the file; a secret from a file is shown as that file."""
    result: dict[str, Any] = {}
    for name, dumped in model.model_dump(mode="json").items():
        value, key = getattr(model, name), type(model).model_fields[name].alias or name
        if isinstance(value, Secret):
            shown, text = _secret(key, value)
            result[shown] = text
        elif isinstance(value, BaseModel):
            result[key] = _plain(value)
        elif isinstance(value, dict) and any(isinstance(one, Secret) for one in value.values()):
            result[key] = dict(_secret(*item) for item in value.items())
        else:
            result[key] = _masked(key, dumped)
    return result


def _secret(name: str, secret: Secret) -> tuple[str, str]:
    return (name, REDACTED) if secret.path is None else (f"{name}_file", str(secret.path))


def _masked(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {inner: _masked(inner, item) for inner, item in value.items()}
    if isinstance(value, list):
        return [_masked(key, item) for item in value]
    if not isinstance(value, str) or key.endswith("_file"):
        return value
    # By name as well: headers and free mappings hold secrets without the type.
    return REDACTED if _SENSITIVE.search(key) else CREDENTIALS.sub(f"//{REDACTED}@", value)
