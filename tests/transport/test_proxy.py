"""The proxy that the environment asks for."""

import pytest

from forwarder.transport.http import proxy_for

BOTH = {"https_proxy": "http://proxy:3128", "http_proxy": "plain:3128"}


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        ("https://splunk:8088", {}, None),
        ("https://splunk:8088/x", BOTH, "http://proxy:3128"),
        ("http://splunk", BOTH, "http://plain:3128"),
        ("https://splunk", {"HTTPS_PROXY": "http://big:1"}, "http://big:1"),
        ("https://splunk", {"all_proxy": "http://all:1"}, "http://all:1"),
        ("https://splunk", BOTH | {"no_proxy": "*"}, None),
        ("https://es.corp.example", BOTH | {"no_proxy": "localhost, .corp.example"}, None),
        ("https://es.corp.example", BOTH | {"NO_PROXY": "corp.example"}, None),
        ("https://corp.example", BOTH | {"no_proxy": "*.corp.example"}, None),
        ("https://notcorp.example", BOTH | {"no_proxy": "corp.example"}, "http://proxy:3128"),
        ("https://es:9200", BOTH | {"no_proxy": "es:9200"}, None),
        ("https://es:9201", BOTH | {"no_proxy": "es:9200"}, "http://proxy:3128"),
        ("https://es", BOTH | {"no_proxy": ""}, "http://proxy:3128"),
    ],
)
def test_what_the_environment_says(url: str, environ: dict[str, str], expected: str | None) -> None:
    assert proxy_for(url, environ) == expected
