"""Settings: the YAML file, its variables and secret files, checked before anything starts."""

from forwarder.config.changes import Changes, Difference, changes, streams_of
from forwarder.config.loading import load
from forwarder.config.models import (
    AccountSettings,
    AdminSettings,
    ForwarderSettings,
    JournalSettings,
    LogSettings,
    RootSettings,
    SinkSettings,
)
from forwarder.config.plugins import InstalledPlugins, PluginError, Plugins
from forwarder.config.schema import json_schema
from forwarder.config.secret_files import secrets_of, watched_files
from forwarder.config.showing import as_yaml, effective
from forwarder.config.sink_options import EventFilter, SinkOptions

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
    "PluginError",
    "Plugins",
    "RootSettings",
    "SinkOptions",
    "SinkSettings",
    "as_yaml",
    "changes",
    "effective",
    "json_schema",
    "load",
    "secrets_of",
    "streams_of",
    "watched_files",
]
