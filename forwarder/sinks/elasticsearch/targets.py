"""Into which data stream or index an event goes, and whether a template makes that one right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import orjson

from forwarder.core.errors import TransientError
from forwarder.core.model import FORWARDER_STREAM
from forwarder.sinks.elasticsearch.config import ElasticsearchConfig

LOGS: Mapping[str, str] = {
    "access_requests": "audit",
    "scim_updates": "scim",
    FORWARDER_STREAM: "forwarder",
}
"""How each stream is called in the name of its data stream."""

_LONGEST_NAME = 255
"""Of an index, by Elasticsearch's rules; a longer pattern is not worth the time to compile it."""


def target_template(config: ElasticsearchConfig) -> str:
    """Return the name to write to, with its placeholders."""
    return config.index or f"logs-{config.dataset}-{config.namespace}"


def target(template: str, stream: str, account: str) -> str:
    """Return the name to write to for one stream of one account; names are always lower case."""
    name = template.replace("{log}", LOGS.get(stream, stream))
    return name.replace("{stream}", stream).replace("{account}", account).lower()


def known_targets(config: ElasticsearchConfig) -> Sequence[str]:
    """Return the data streams that will be written to, as far as the settings alone tell."""
    template = target_template(config)
    if config.index or "{account}" in template:
        return ()
    return [target(template, stream, "") for stream in LOGS]


def makes_data_stream(answer: bytes, name: str) -> bool:
    """Say whether the index template that governs ``name`` makes data streams.

    ``answer`` is the body that ``GET /_index_template`` returned. Raises ``TransientError`` for
    one that is none.
    """
    try:
        entries = as_object(answer).get("index_templates", ())
        templates: list[dict[str, Any]] = [entry.get("index_template", {}) for entry in entries]
        matching = [template for template in templates if _governs(template, name)]
        chosen = max(matching, key=lambda template: template.get("priority") or 0, default=None)
    except (TypeError, AttributeError) as error:
        raise TransientError(
            "the question for index templates was answered with something else",
            hint="check the URL; a log-in page or a load balancer may answer in its place",
        ) from error
    return chosen is not None and "data_stream" in chosen


def as_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object in ``text``, or an empty one when it holds something else."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def section(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object under ``key``, or an empty one when there is something else."""
    inner = found.get(key)
    return inner if isinstance(inner, dict) else {}


def _governs(template: dict[str, Any], name: str) -> bool:
    patterns = template.get("index_patterns", ())
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    return any(len(pattern) <= _LONGEST_NAME and fnmatchcase(name, pattern) for pattern in patterns)
