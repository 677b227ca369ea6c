"""The templates under ``deploy/elastic`` govern the data streams that the sink writes to."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from forwarder.core.errors import TransientError
from forwarder.sinks.elasticsearch import ElasticsearchConfig
from forwarder.sinks.elasticsearch.bulk import makes_data_stream

FOLDER = Path(__file__).parents[3] / "deploy" / "elastic"


def load(name: str) -> Any:
    return orjson.loads((FOLDER / name).read_bytes())


@pytest.mark.parametrize("engine", ["elasticsearch", "opensearch"])
def test_the_default_names_are_governed(engine: str) -> None:
    template = load(f"{engine}/index-template.json")
    answer = orjson.dumps({"index_templates": [{"name": "x", "index_template": template}]})
    names = ElasticsearchConfig(url="https://es:9200").known_targets

    assert all(makes_data_stream(answer, name) for name in names)


def test_policies_and_patterns_belong_together() -> None:
    template = load("elasticsearch/index-template.json")
    ism = load("opensearch/ism-policy.json")["policy"]["ism_template"][0]
    role = load("elasticsearch/sink-role.json")["indices"][0]

    assert template["template"]["settings"]["index.lifecycle.name"] == "logs-cloudflare_access"
    assert template["index_patterns"] == ism["index_patterns"] == role["names"]
    assert {"create_doc", "auto_configure"} <= set(role["privileges"])


@pytest.mark.parametrize("engine", ["elasticsearch", "opensearch"])
def test_the_template_names_a_pipeline_that_is_there(engine: str) -> None:
    settings = load(f"{engine}/index-template.json")["template"]["settings"]
    first, second = load(f"{engine}/ingest-pipeline.json")["processors"]
    (stamp,) = first.values()

    assert settings["index.final_pipeline"] == "logs-cloudflare_access"
    assert "event.ingested" in {stamp.get("field"), stamp.get("target_field")}
    assert second["pipeline"]["name"] == "logs-cloudflare_access-geo"
    assert second["pipeline"]["ignore_failure"]
    assert load(f"{engine}/geo-pipeline.json")["processors"]
    installer = (FOLDER / "install.sh").read_text(encoding="utf-8")
    for path in (FOLDER / engine).glob("*.json"):
        assert path.name in installer or path.name.endswith("-role.json")


@pytest.mark.parametrize("entries", [None, 7, [None], [{"index_template": []}], {"a": 1}])
def test_an_answer_without_templates_is_an_outage(entries: object) -> None:
    with pytest.raises(TransientError, match="index templates"):
        makes_data_stream(orjson.dumps({"index_templates": entries}), "logs-a-b")


def test_a_pattern_that_is_longer_than_any_name_governs_nothing() -> None:
    template = {"index_patterns": ["logs-*" + "*" * 300], "data_stream": {}}

    assert not makes_data_stream(
        orjson.dumps({"index_templates": [{"index_template": template}]}), "logs-a-b"
    )
