"""What the settings accept, and what they say of the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from forwarder.core.errors import ConfigError
from forwarder.formats.ocsf import OcsfConfig
from forwarder.formats.raw import RawConfig
from forwarder.sinks.object_store import ObjectStoreSink
from forwarder.sinks.object_store.config import ObjectStoreConfig
from forwarder.testing.fake_sinks import sink_context

LAKE = {"region": "eu-central-1", "account_id": "123456789012"}
KEYS = {"access_key_id": "a", "secret_access_key": "b"}


@pytest.mark.parametrize(
    "given",
    [
        {"url": "s3://my-bucket"},
        {"url": "s3://my-bucket/a/b_c/", **KEYS, "session_token": "c", "region": "auto"},
        {"url": "gs://my-bucket/logs"},
        {"url": "gs://my-bucket/logs", "service_account_key": "{}"},
        {"url": "az://logs", "account_name": "acme"},
        {"url": "az://logs", "account_name": "acme", "sas_token": "sv=1"},
        {
            "url": "az://logs",
            "account_name": "acme",
            "tenant_id": "t",
            "client_id": "c",
            "client_secret": "s",
        },
    ],
)
def test_each_service_has_its_ways_to_log_in(given: dict[str, Any]) -> None:
    config = ObjectStoreConfig.model_validate(given)

    assert config.bucket in ("my-bucket", "logs")
    assert not config.prefix.endswith("/")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "https://my-bucket"}, "must begin with s3://, gs://, az://"),
        ({"url": "s3://"}, "names no bucket"),
        ({"url": "s3://user:secret@bucket"}, "names no bucket"),
        ({"url": "s3://bucket/a b"}, "its prefix takes letters"),
        ({"url": "s3://bucket/a/../b"}, "its prefix takes letters"),
        ({"url": "s3://bucket", "access_key_id": "a"}, "takes access_key_id and secret_access_key"),
        ({"url": "s3://bucket", "account_key": "a"}, "takes access_key_id and secret_access_key"),
        ({"url": "s3://bucket", "session_token": "a"}, "session_token needs"),
        ({"url": "gs://bucket", **KEYS}, "takes service_account_key"),
        ({"url": "az://logs"}, "needs account_name"),
        ({"url": "az://logs", "account_name": "a", "region": "x"}, "takes account_key; or"),
        ({"url": "s3://bucket", "layout": "security_lake"}, "belong together"),
        ({"url": "s3://bucket", "security_lake": LAKE}, "belong together"),
        (
            {"url": "s3://bucket", "layout": "security_lake", "security_lake": LAKE},
            "needs file_format: parquet",
        ),
        (
            {"url": "s3://bucket", "security_lake": {**LAKE, "source_prefix": "a" * 16}},
            "1 to 15 letters",
        ),
        ({"url": "s3://bucket", "security_lake": {**LAKE, "region": "a/b"}}, "cannot be a part"),
    ],
)
def test_faults_say_what_is_allowed(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ObjectStoreConfig.model_validate(given)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("style", "settings", "fits"),
    [
        ("raw", RawConfig(), False),
        ("ocsf", OcsfConfig(), False),
        ("ocsf", OcsfConfig(ocsf_version="1.1.0"), True),
    ],
)
def test_security_lake_needs_ocsf_1_1(style: str, settings: Any, *, fits: bool) -> None:
    given = {
        "url": "s3://bucket",
        "file_format": "parquet",
        "layout": "security_lake",
        "security_lake": LAKE,
    }
    context = replace(sink_context(), format=style, format_settings=settings)
    config = ObjectStoreConfig.model_validate(given)
    if fits:
        assert ObjectStoreSink(config, context).limits.max_wait == 300
        return

    with pytest.raises(ConfigError, match=r"format: ocsf with ocsf_version: 1\.1\.0"):
        ObjectStoreSink(config, context)
