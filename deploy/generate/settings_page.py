"""docs/configuration.md, out of the settings' models and those of every installed plugin. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deploy.generate.settings_words import default_words, nested_models, type_words
from forwarder.config.models import RootSettings, SinkOptions
from forwarder.config.plugins import Kind, Plugins
from forwarder.sinks.syslog import PRESETS
from forwarder.transport.presets import Preset, presets
from forwarder.transport.settings import TlsSettings

_HEAD = """\
<!-- Generated from the code: make generate -->
# Configuration

One YAML file holds all settings. [config.yaml](../config.yaml) is an example with every key that is
not a sink's own. `forwarder check` reads it and names every fault with its line before anything
starts; `forwarder config show` prints what is in force, with secrets masked;
`forwarder config schema` prints the JSON schema for editors.

## How values are written

| kind | examples |
|---|---|
| duration | `500ms`, `10s`, `5m`, `24h`, `7d`, `1h30m`; only `0` needs no unit |
| size | `512KiB`, `64MiB`, `2GiB`, `10MB`, `300B`; only `0` needs no unit |
| secret | text, a variable, or a file: every secret `KEY` can be given as `KEY_file: PATH` |
| variable | `${NAME}` and `${NAME:-default}` in any value; `$${` is a plain `${` |

A default may hold variables. Between `{ }` and `[ ]`, put a variable in quotes.

Secret files are read again when they change. `SIGHUP` reloads the settings and changes only what
differs; with `reload_on_change: true`, so does a change of the file, within seconds. `state_dir`,
`journal` (but `settings_generation`), `admin`, `log.format`, `logpush` and `tracing` need a
restart; `needs_restart` in the log line `settings_reloaded` and in `/status` names those that wait
for one. If the settings have a fault, they are refused as a whole and the old ones stay in force:
the faults are in the log, in `/status` and on the status page until good settings are read.
Unknown keys are faults.
"""
_SINKS = """\
## Sinks

`sinks` is a mapping of names to sinks. The name is the sink's identity in the journal: under
another name it starts again, where `start_at` says. These keys are the same for every type.
"""
_FILTER = """\
`only` and `except` take these keys. Every given key must match, by any one of its values; `*`
matches any text, and case is ignored. `app` matches an application's name, domain or id.
"""


def settings_page(plugins: Plugins) -> str:
    """Return the page."""
    return "\n".join(_parts(plugins))


def _parts(plugins: Plugins) -> Iterator[str]:
    told: set[type[BaseModel]] = set()
    yield _HEAD
    yield "## The file\n"
    yield _table(RootSettings.model_fields, _LISTS)
    yield from _below(RootSettings, told)
    yield "## Accounts\n\n`accounts` is a list with one entry an account.\n"
    for name, plugin in _loaded(plugins, "sources"):
        yield f"### Source `{name}`\n"
        yield _table(plugin.Config.model_fields, _TYPES[name])
        yield from _below(plugin.Config, told)
    yield "## Connections over TLS\n\nWhat connects to others takes these keys under `tls`.\n"
    yield _table(TlsSettings.model_fields)
    yield _SINKS
    yield _table(SinkOptions.model_fields, _SINK_TYPE)
    yield from _below(SinkOptions, told)
    for name, plugin in _loaded(plugins, "sinks"):
        about = f"{_sentence(plugin.summary)} Default format: `{plugin.default_format}`."
        yield f"### Sink `{name}`\n\n{about}\n"
        yield _table(plugin.Config.model_fields)
        yield from _below(plugin.Config, told)
        if name == "syslog":
            yield _presets(PRESETS)
        elif found := presets(name):
            yield _presets({key: _kept(one) for key, one in found.items()})
    yield "## Formats\n\nThese keys stand in the sink that uses the format.\n"
    for name, plugin in _loaded(plugins, "formats"):
        yield f"### Format `{name}`\n\n{_sentence(plugin.summary)}\n"
        yield _table(plugin.Config.model_fields)


_LISTS = (
    "| `accounts` | list | required | what is read; see [Accounts](#accounts) |",
    "| `sinks` | mapping | required | where events go; see [Sinks](#sinks) |",
)
_TYPES = {"cloudflare_access": ("| `type` | text | `cloudflare_access` | the source |",)}
_SINK_TYPE = (
    "| `type` | text | required | one of the types below; `forwarder plugins` lists them |",
)


def _loaded(plugins: Plugins, kind: Kind) -> Iterator[tuple[str, Any]]:
    """Yield the plugins of this package; whatever else is installed is not told here."""
    for name in plugins.names(kind):
        plugin = plugins.load(kind, name)
        if plugin.__module__.startswith("forwarder."):
            yield name, plugin


def _below(model: type[BaseModel], told: set[type[BaseModel]], path: str = "") -> Iterator[str]:
    """Yield a section for each group of settings inside ``model`` that was not told yet."""
    for key, nested in nested_models(model):
        if nested in told or nested is TlsSettings:
            continue
        told.add(nested)
        yield f"#### `{path}{key}`\n"
        yield _FILTER if key in {"only", "except"} else f"{_sentence(_summary(nested))}\n"
        yield _table(nested.model_fields)
        yield from _below(nested, told, f"{path}{key}.")


def _summary(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").partition("\n\n")[0].replace("\n", " ").strip()


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _table(fields: Mapping[str, FieldInfo], before: Iterable[str] = ()) -> str:
    if not fields:
        return "It has no keys of its own.\n"
    rows = [
        f"| `{field.alias or name}`{f', `{name}_file`' if type_words(field) == 'secret' else ''} "
        f"| {type_words(field)} | {default_words(field)} | {_escaped(field.description or '')} |"
        for name, field in fields.items()
    ]
    head = "| key | type | default | meaning |\n|---|---|---|---|"
    return "\n".join([head, *before, *rows]) + "\n"


def _kept(preset: Preset) -> Mapping[str, Any]:
    """Return the keys that a preset of a product sets."""
    limits = {f"batch.{key}": value for key, value in preset.limits.items()}
    # No key sets it: a larger event can never be sent.
    limits.pop("batch.max_event_bytes", None)
    return {"format": preset.format, **preset.settings, **limits}


def _presets(found: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        f"| `{name}` | {', '.join(_preset_key(key, value) for key, value in preset.items())} |"
        for name, preset in found.items()
    ]
    head = "#### Presets of `preset`\n\n| preset | sets, unless you do |\n|---|---|"
    return "\n".join([head, *rows]) + "\n"


def _preset_key(key: str, value: Any) -> str:
    return f"`{key}: {value}`" if value != "" else f"`{key}` empty"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
