"""What a replica says of itself to people and to the other replicas."""

from __future__ import annotations

from forwarder.config.document import parse_document
from forwarder.config.loading import build
from forwarder.config.plugins import InstalledPlugins
from forwarder.core.timing import SystemClock
from forwarder.runtime.replica import Replica, telemetry_of

SETTINGS = """
version: 1
accounts: [{{ account_id: 023e105f4ecef8ad9ca31a8372d0c353, api_token: t }}]
sinks: {{ console: {{ type: stdout }} }}
logpush: {{ listen: "127.0.0.1:0", secret: s, peer: {{ host: {host} }}, header: {header} }}
"""


def config_hash(host: str, header: str) -> str:
    text = SETTINGS.format(host=host, header=header)
    settings = build(parse_document(text, "config.yaml"), {}, InstalledPlugins())
    return Replica(settings, telemetry_of(settings), SystemClock()).config_hash


def test_the_hash_of_the_settings_differs_by_settings_and_not_by_the_replicas_place() -> None:
    here, there = config_hash("10.0.0.1", "Authorization"), config_hash("10.0.0.2", "Authorization")

    assert here == there
    assert here != config_hash("10.0.0.1", "X-Secret")
