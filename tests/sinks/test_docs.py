"""Every setting of a sink is in its page."""

import re
from pathlib import Path

import pytest

from forwarder.sinks.elasticsearch import ElasticsearchConfig
from forwarder.sinks.file import FileConfig
from forwarder.sinks.http import HttpSinkConfig
from forwarder.sinks.loki import LokiConfig
from forwarder.sinks.object_store.config import ObjectStoreConfig
from forwarder.sinks.otlp import OtlpConfig
from forwarder.sinks.sentinel import SentinelConfig
from forwarder.sinks.splunk_hec import SplunkHecConfig
from forwarder.transport.settings import PluginSettings

PAGES = Path(__file__).parents[2] / "docs" / "sinks"


@pytest.mark.parametrize(
    ("page", "config"),
    [
        ("splunk_hec", SplunkHecConfig),
        ("elasticsearch", ElasticsearchConfig),
        ("http", HttpSinkConfig),
        ("loki", LokiConfig),
        ("otlp", OtlpConfig),
        ("sentinel", SentinelConfig),
        ("file", FileConfig),
        ("object_store", ObjectStoreConfig),
    ],
)
def test_a_page_names_the_settings(page: str, config: type[PluginSettings]) -> None:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    named = {key for cell in cells for key in re.findall(r"`([a-z0-9_]+)[`.]", cell)}

    missing = config.model_fields.keys() - named
    assert not missing
