"""Settings: the YAML file, its variables and secret files, checked before anything starts."""

from forwarder.config.changes import Changes, Difference, changes, streams_of
from forwarder.config.loading import load, secrets_of, watched_files
from forwarder.config.models import (
    AccountSettings,
    AdminSettings,
    EventFilter,
    ForwarderSettings,
    JournalSettings,
    LogpushSettings,
    LogSettings,
    RootSettings,
    SinkOptions,
    SinkSettings,
    TracingSettings,
)
from forwarder.config.plugins import InstalledPlugins, PluginError, Plugins
from forwarder.config.showing import as_yaml, effective, json_schema

__all__ = [
    "AccountSettings",
    "AdminSettings",
    "Changes",
    "Difference",
    "EventFilter",
    "ForwarderSettings",
    "InstalledPlugins",
    "JournalSettings",
    "LogSettings",
    "LogpushSettings",
    "PluginError",
    "Plugins",
    "RootSettings",
    "SinkOptions",
    "SinkSettings",
    "TracingSettings",
    "as_yaml",
    "changes",
    "effective",
    "json_schema",
    "load",
    "secrets_of",
    "streams_of",
    "watched_files",
]
