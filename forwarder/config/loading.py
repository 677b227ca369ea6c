"""Load the settings: read, resolve, validate, and report every fault at once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from forwarder.config.document import Document, Place, dotted, read_document, resolve
from forwarder.config.models import (
    AccountSettings,
    ForwarderSettings,
    RootSettings,
    SinkOptions,
    SinkSettings,
)
from forwarder.config.plugins import InstalledPlugins, Kind, PluginError, Plugins
from forwarder.config.validation import (
    NO_HEADER,
    check_exclusive,
    check_receiver,
    check_streams,
    choices,
    faults_of,
    is_no_header,
    keys_of,
    kind_of,
    unknown,
    unknown_paths,
)
from forwarder.core.errors import ConfigError, Fault, NeedsOperatorError
from forwarder.transport.settings import Secret

_OTHERS = 0o077
_OTHERS_BUT_READING_GROUP = 0o037


def secrets_of(settings: ForwarderSettings) -> Iterator[tuple[Place, Secret]]:
    """Yield every secret with the place of its key; the key of a file ends in ``_file``."""
    for place, value in _values(settings):
        if isinstance(value, Secret):
            yield (place if value.path is None else _as_file(place)), value


def watched_files(settings: ForwarderSettings) -> list[Path]:
    """Return the files whose change may fix something: secrets, certificates, keys."""
    secrets = [secret.path for _, secret in secrets_of(settings) if secret.path is not None]
    return [*secrets, *(file for _, file in _files(settings))]


def check_secrets(
    settings: ForwarderSettings, document: Document, path: Path | None
) -> tuple[list[Fault], list[str]]:
    """Return faults for what cannot be read or used, and warnings for modes that are too wide.

    ``path`` is the settings file itself; its mode matters if a secret is written in it.
    """
    faults: list[Fault] = []
    guarded: dict[Path, Place] = {}
    for place, secret in secrets_of(settings):
        try:
            # Read now: an unreadable file should stop `check`, not the first delivery.
            value = secret.reveal()
        except NeedsOperatorError as error:
            faults.append(document.fault(place, str(error), error.hint))
            continue
        if "headers" in place and is_no_header(value):
            faults.append(document.fault(place, NO_HEADER))
        if secret.path is not None:
            guarded.setdefault(secret.path, place)
        # A secret out of a variable is not in the file, whose mode does not matter then.
        elif path is not None and "${" not in str(document.written(place)):
            guarded.setdefault(path, place)
    faults += [
        document.fault(place, f"the file {file} {problem}", "check the path and its permissions")
        for place, file in _files(settings)
        if (problem := _unreadable(file))
    ]
    warnings = [_mode_warning(file, place) for file, place in guarded.items()]
    return faults, [warning for warning in warnings if warning]


def _files(settings: ForwarderSettings) -> Iterator[tuple[Place, Path]]:
    for place, value in _values(settings):
        if isinstance(value, Path) and str(place[-1]).endswith("_file"):
            yield place, value


def _unreadable(file: Path) -> str:
    """Return why a file cannot be read, or an empty text."""
    if not file.exists():
        return "does not exist"
    if not file.is_file():
        return "is no file"
    return "" if os.access(file, os.R_OK) else "cannot be read by this user"


def _mode_warning(file: Path, place: Place) -> str:
    """Return a warning if others may read a file with a secret, or an empty text."""
    # Kubernetes mounts secrets owned by root, readable for the pod's group: that is fine.
    found = file.stat()
    mode = found.st_mode & 0o777
    too_wide = _OTHERS if found.st_uid == os.geteuid() else _OTHERS_BUT_READING_GROUP
    if not mode & too_wide:
        return ""
    return f"{file} contains {dotted(place)} and has mode {mode:04o}; run: chmod 600 {file}"


def _as_file(place: Place) -> Place:
    *parents, last = place
    return (*parents, f"{last}_file")


def _values(settings: ForwarderSettings) -> Iterator[tuple[Place, Any]]:
    yield from _walk(settings.root, ())
    for index, account in enumerate(settings.accounts):
        yield from _walk(account.config, ("accounts", index))
    for sink in settings.sinks:
        for model in (sink.options, sink.config, sink.format_config):
            yield from _walk(model, ("sinks", sink.name))


def _walk(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        value = {fields[name].alias or name: item for name, item in value}
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, (*place, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _walk(item, (*place, index))
    else:
        yield place, value


_Model = TypeVar("_Model", bound=BaseModel)
_SINK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_DEFAULT_SOURCE = "cloudflare_access"


def load(
    path: Path, environment: Mapping[str, str], plugins: Plugins | None = None
) -> ForwarderSettings:
    """Read and validate a settings file.

    ``environment`` has the variables. Every secret file is read once, to see that it is readable.
    Raises ``ConfigError`` with all faults.
    """
    return build(read_document(path), environment, plugins or InstalledPlugins(), path=path)


def load_place(
    path: Path, environment: Mapping[str, str]
) -> tuple[RootSettings, dict[str, str], list[str]]:
    """Return the root with ``state_dir`` and ``journal``, accounts' labels by id, sinks' names.

    For a file with faults elsewhere: labels and names are as good as it has them. Raises
    ``ConfigError`` if it cannot be read, or if ``state_dir`` or ``journal`` has a fault.
    """
    document = read_document(path)
    whole, _ = resolve(document, environment)
    whole = whole if isinstance(whole, dict) else {}
    # Resolved by themselves: an unset variable elsewhere must not stand in the way.
    kept = {key: item for key, item in whole.items() if key in {"state_dir", "journal"}}
    part = replace(document, data={key: document.data[key] for key in kept})
    _, faults = resolve(part, environment)
    if faults:
        raise ConfigError(faults)
    root = validated(RootSettings, {"version": 1, **kept}, document, (), faults)
    if root is None:
        raise ConfigError(faults)
    accounts = whole.get("accounts")
    labels = {
        str(one.get("account_id")): str(one.get("name") or one.get("account_id"))
        for one in (accounts if isinstance(accounts, list) else ())
        if isinstance(one, dict)
    }
    sinks = whole.get("sinks")
    return root, labels, list(sinks) if isinstance(sinks, dict) else []


def validated(
    model: type[_Model],
    given: dict[str, Any],
    document: Document,
    place: Place,
    faults: list[Fault],
) -> _Model | None:
    """Return the model, or None and add what is wrong to ``faults``."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults += faults_of(error, document, place, model)
        return None


def build(
    document: Document,
    environment: Mapping[str, str],
    plugins: Plugins,
    *,
    path: Path | None = None,
) -> ForwarderSettings:
    """Validate a parsed document; ``path`` is its file, whose mode guards secrets written in it."""
    data, faults = resolve(document, environment)
    if faults:
        raise ConfigError(faults)
    return _Builder(document, data, plugins).settings(path)


class _Builder:
    """Turns data into settings, and collects faults on the way."""

    def __init__(self, document: Document, data: Any, plugins: Plugins) -> None:
        self._document = document
        self._data = data
        self._plugins = plugins
        self._faults: list[Fault] = []

    def settings(self, path: Path | None) -> ForwarderSettings:
        if not isinstance(self._data, dict):
            raise ConfigError([self._document.fault((), "must be a mapping of keys")])
        rest = {key: item for key, item in self._data.items() if key not in {"accounts", "sinks"}}
        self._refuse_unknown((), rest, [*keys_of(RootSettings), "accounts", "sinks"])
        # Unknown keys have their fault already; pydantic would report them again.
        known = {key: item for key, item in rest.items() if key in RootSettings.model_fields}
        root = self._validated(RootSettings, known, ())
        accounts = self._accounts(self._data.get("accounts"))
        sinks = self._sinks(self._data.get("sinks"))
        # What follows compares parts, and needs all of them to be valid.
        if root is None or self._faults:
            raise ConfigError(self._faults)
        settings = ForwarderSettings(root, tuple(accounts), tuple(sinks), path=path)
        faults, warnings = check_secrets(settings, self._document, path)
        faults += check_exclusive(settings, self._document)
        faults += check_streams(settings.accounts, settings.sinks, self._document)
        wrong, open_to_others = check_receiver(root, self._document)
        faults += wrong
        if faults:
            raise ConfigError(faults)
        # Rows of a pushed dataset may have any key.
        declared = settings.accounts if root.logpush is None else ()
        warnings += [*open_to_others, *unknown_paths(declared, settings.sinks)]
        return replace(settings, warnings=tuple(warnings))

    def _accounts(self, given: Any) -> list[AccountSettings]:
        if not isinstance(given, list) or not given:
            self._fault(
                ("accounts",), f"found {kind_of(given)}; must be a list with at least one account"
            )
            return []
        found = [self._account(item, ("accounts", index)) for index, item in enumerate(given)]
        for key in ("account_id", "label"):
            self._refuse_doubles(key, found)
        return [account for account in found if account is not None]

    def _account(self, given: Any, place: Place) -> AccountSettings | None:
        if not isinstance(given, dict):
            self._fault(place, f"found {kind_of(given)}; must be a mapping of keys")
            return None
        keys = dict(given)
        kind = str(keys.pop("type", _DEFAULT_SOURCE))
        plugin = self._plugin("sources", kind, (*place, "type"), "account type")
        config = plugin and self._validated(plugin.Config, keys, place)
        return config and AccountSettings(kind, plugin, config)

    def _refuse_doubles(self, key: str, accounts: list[AccountSettings | None]) -> None:
        first: dict[str, int] = {}
        for index, account in enumerate(accounts):
            value = getattr(account, key, None)
            if value in first:
                where = f"accounts[{first[value]}]"
                # The key is called `name` in the file and `label` in code, where it has a default.
                name = "account_id" if key == "account_id" else "name"
                problem = f"{value!r} is already used by {where}"
                self._fault(("accounts", index, name), problem, "an account may be listed once")
            elif value is not None:
                first[value] = index

    def _sinks(self, given: Any) -> list[SinkSettings]:
        if not isinstance(given, dict) or not given:
            problem = (
                f"found {kind_of(given)}; must be a mapping with at least one sink under its name"
            )
            self._fault(("sinks",), problem)
            return []
        found = [self._sink(name, item, ("sinks", name)) for name, item in given.items()]
        return [sink for sink in found if sink is not None]

    def _sink(self, name: str, given: Any, place: Place) -> SinkSettings | None:
        if not _SINK_NAME.fullmatch(name):
            self._fault(place, "a name has only letters, digits, dots, _ and -, at most 63")
        if not isinstance(given, dict):
            self._fault(place, f"found {kind_of(given)}; must be a mapping of keys")
            return None
        keys = dict(given)
        if "type" not in keys:
            allowed = ", ".join(self._plugins.names("sinks"))
            self._fault((*place, "type"), f"required, but not given; allowed: {allowed}")
            return None
        given_type = keys.pop("type")
        # YAML reads `type: null`, which is a sink type, as no value.
        kind = "null" if given_type is None else str(given_type)
        plugin = self._plugin("sinks", kind, (*place, "type"), "sink type")
        style = str(keys.get("format") or _default_format(plugin, keys))
        writer = self._plugin("formats", style, (*place, "format"), "format")
        if plugin is None or writer is None:
            return None
        # The default may depend on other keys, so the model cannot have it.
        keys["format"] = style
        models = (SinkOptions, plugin.Config, writer.Config)
        parts = self._split(keys, place, models)
        options, config, format_config = (
            self._validated(model, part, place) for model, part in zip(models, parts, strict=True)
        )
        if options is None or config is None or format_config is None:
            return None
        return SinkSettings(name, kind, plugin, config, style, writer, format_config, options)

    def _split(
        self, keys: dict[str, Any], place: Place, models: tuple[type[BaseModel], ...]
    ) -> list[dict[str, Any]]:
        """Give each key to the first model that knows it."""
        # Reversed, so that the first model wins a key that several know.
        owners = {key: model for model in reversed(models) for key in keys_of(model)}
        self._refuse_unknown(place, keys, sorted([*owners, "type"]))
        return [
            {key: item for key, item in keys.items() if owners.get(key) is model}
            for model in models
        ]

    def _plugin(self, kind: Kind, name: str, place: Place, what: str) -> Any:
        names = self._plugins.names(kind)
        if name not in names:
            self._fault(place, *unknown(what, name, names))
            return None
        try:
            return self._plugins.load(kind, name)
        except PluginError as error:
            self._fault(place, str(error), "is its distribution fully installed?")
            return None

    def _validated(self, model: type[_Model], given: dict[str, Any], place: Place) -> _Model | None:
        return validated(model, given, self._document, place, self._faults)

    def _refuse_unknown(self, place: Place, keys: dict[str, Any], allowed: list[str]) -> None:
        for key in keys:
            if key not in allowed:
                self._fault((*place, key), "unknown key", choices(key, sorted(allowed)))

    def _fault(self, place: Place, problem: str, hint: str = "") -> None:
        self._faults.append(self._document.fault(place, problem, hint))


def _default_format(plugin: Any, keys: dict[str, Any]) -> str:
    """Return the plugin's default, which may depend on its other settings (syslog's presets)."""
    choose = getattr(plugin, "format_for", None)
    return str(choose(keys) if choose else getattr(plugin, "default_format", "raw"))
