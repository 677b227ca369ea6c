"""The effective settings, defaults included, secrets and credentials masked."""

from __future__ import annotations

import re
from typing import Any

import yaml
from pydantic import BaseModel

from forwarder.config.models import ForwarderSettings
from forwarder.transport.secrets import REDACTED, Secret

_SENSITIVE = re.compile(r"(?i)authorization|cookie|token|secret|password|passwd|api[-_]?key")
_CREDENTIALS = re.compile(r"//[^/@\s]+@")


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
    """Return the effective settings as YAML."""
    return yaml.safe_dump(effective(settings), sort_keys=False, allow_unicode=True, width=100)


def _plain(model: BaseModel) -> dict[str, Any]:
    """Return a model as its keys are written; a secret out of a file is shown as that file."""
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
    return REDACTED if _SENSITIVE.search(key) else _CREDENTIALS.sub(f"//{REDACTED}@", value)
