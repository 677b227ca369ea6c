"""Settings built from small plugins of the tests' own, so that no real plugin is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import dedent
from typing import Any, Literal

import pytest
from pydantic import Field

from forwarder.config.document import parse_document
from forwarder.config.loading import build
from forwarder.config.models import ForwarderSettings
from forwarder.config.plugins import Kind, PluginError
from forwarder.core.errors import ConfigError
from forwarder.transport.settings import Duration, PluginSettings, Secret, Settings, TlsSettings


class Stream(Settings):
    poll_interval: Duration = Field(10.0, gt=0, description="between two polls")


class Streams(Settings):
    logins: Stream | None = None
    changes: Stream | None = None


class RateLimit(Settings):
    requests: int = Field(1200, ge=1)


class ServiceConfig(PluginSettings):
    account_id: str
    name: str | None = None
    api_token: Secret
    rate_limit: RateLimit | Literal[False] = RateLimit()
    streams: Streams = Streams()

    @property
    def label(self) -> str:
        return self.name or self.account_id


class SplunkConfig(PluginSettings):
    url: str
    token: Secret
    acks: Literal["auto", "required", "off"] = "auto"
    headers: dict[str, str] = Field({})
    marks: dict[str, Secret] = Field({})
    tls: TlsSettings = TlsSettings()


class Service:
    Config = ServiceConfig


class Splunk:
    Config = SplunkConfig
    default_format = "raw"
    summary = "to Splunk"


class Stdout:
    Config = PluginSettings
    default_format = "raw"
    summary = "to the terminal"


class RawConfig(PluginSettings):
    envelope: bool = True


class Raw:
    Config = RawConfig
    summary = "as received"


class FakePlugins:
    """Stands for what is installed; ``broken`` is installed and cannot be imported."""

    known: Mapping[Kind, Mapping[str, Any]] = {
        "sources": {"cloudflare_access": Service},
        "sinks": {"splunk_hec": Splunk, "stdout": Stdout, "broken": None},
        "formats": {"raw": Raw},
    }

    def names(self, kind: Kind) -> list[str]:
        return sorted(self.known[kind])

    def load(self, kind: Kind, name: str) -> Any:
        found = self.known[kind][name]
        if found is None:
            raise PluginError(f"{name} cannot be imported: no module named absent")
        return found


GOOD = """
version: 1
accounts:
  - account_id: a1
    api_token: t0ken
    streams: { logins: {} }
sinks:
  console: { type: stdout }
"""


@pytest.fixture
def plugins() -> FakePlugins:
    return FakePlugins()


@pytest.fixture
def settings_of(plugins: FakePlugins) -> Callable[..., ForwarderSettings]:
    def build_settings(text: str, **variables: str) -> ForwarderSettings:
        return build(parse_document(dedent(text), "config.yaml"), variables, plugins)

    return build_settings


@pytest.fixture
def faults_of(settings_of: Callable[..., ForwarderSettings]) -> Callable[..., list[str]]:
    def faults(text: str, **variables: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            settings_of(text, **variables)
        return [str(fault) for fault in caught.value.faults]

    return faults
