"""What a replica says of itself to people and to the other replicas."""

from __future__ import annotations

from socket import gethostname

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


def replica(host: str = "10.0.0.1", header: str = "Authorization") -> Replica:
    text = SETTINGS.format(host=host, header=header)
    settings = build(parse_document(text, "config.yaml"), {}, InstalledPlugins())
    return Replica(settings, telemetry_of(settings), SystemClock())


def config_hash(host: str, header: str) -> str:
    return replica(host, header).config_hash


def test_the_hash_of_the_settings_differs_by_settings_and_not_by_the_replicas_place() -> None:
    here, there = config_hash("10.0.0.1", "Authorization"), config_hash("10.0.0.2", "Authorization")

    assert here == there
    assert here != config_hash("10.0.0.1", "X-Secret")


def test_others_get_a_name_of_this_host_in_place_of_all_its_interfaces() -> None:
    shown = replica()
    shown.listens(admin_url="http://0.0.0.0:9464", push_url="https://[::]:8080")
    about = shown.announcement.about
    shown.listens(push_url="http://10.0.0.1:8080")
    later = shown.announcement.about

    assert f"http://{gethostname()}:9464" == about.admin_url == later.admin_url
    assert f"https://{gethostname()}:8080" == about.push_url
    assert "http://10.0.0.1:8080" == later.push_url
