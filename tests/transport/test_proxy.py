"""The proxy of the environment, and the hosts that are reached without it."""

import pytest

from forwarder.core.errors import NeedsOperatorError
from forwarder.transport.http import proxy_for

BOTH = {"https_proxy": "http://proxy:3128", "http_proxy": "plain:3128"}

CHOSEN: dict[tuple[str, tuple[tuple[str, str], ...]], str | None] = {
    ("https://splunk:8088", ()): None,
    ("https://splunk:8088/x", tuple(BOTH.items())): "http://proxy:3128",
    ("http://splunk", tuple(BOTH.items())): "http://plain:3128",
    ("https://splunk", (("HTTPS_PROXY", "http://big:1"),)): "http://big:1",
    ("https://splunk", (("all_proxy", "http://all:1"),)): "http://all:1",
    ("https://splunk", (("https_proxy", " http://blank:1 "),)): "http://blank:1",
}

WITHOUT = [
    ("*", "https://splunk"),
    ("localhost, .corp.example", "https://es.corp.example"),
    ("corp.example", "https://es.corp.example"),
    ("*.corp.example", "https://corp.example"),
    ("*.corp.example", "https://es.corp.example"),
    ("CORP.Example", "https://ES.corp.example"),
    ("corp.example.", "https://es.corp.example"),
    ("corp.example", "https://es.corp.example."),
    ("es:9200", "https://es:9200"),
    ("es:443", "https://es"),
    ("es:80", "http://es"),
    ("localhost 127.0.0.1", "http://127.0.0.1:9400"),
    ("localhost\t127.0.0.1,", "http://127.0.0.1:9400"),
    ("127.0.0.0/8", "http://127.0.0.1:9400"),
    ("10.0.0.0/8,.svc", "https://10.96.0.1:8088"),
    ("10.0.0.0/8,.svc", "https://splunk.siem.svc"),
    ("10.96.0.1/8", "https://10.0.0.7"),
    ("127.*", "http://127.0.0.1"),
    ("::1", "http://[::1]:9400"),
    ("[::1]", "http://[::1]:9400"),
    ("[::1]:9400", "http://[::1]:9400"),
    ("fd00::/8", "http://[fd12::7]:9400"),
]

WITH = [
    ("", "https://es"),
    ("corp.example", "https://notcorp.example"),
    ("es:9200", "https://es:9201"),
    ("es:9200", "https://es"),
    ("10.0.0.0/8", "https://11.0.0.1"),
    ("10.0.0.0/8", "https://ten.example"),
    ("10.0.0.0/99", "https://10.0.0.1"),
    ("[::1]:9400", "http://[::1]:9401"),
    ("fd00::/8", "http://10.0.0.1"),
    (".", "https://es.corp.example"),
]


def test_the_proxy_of_the_scheme_or_of_all_is_chosen() -> None:
    assert {(url, env): proxy_for(url, dict(env)) for url, env in CHOSEN} == CHOSEN


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_every_spelling_of_an_exception_is_understood(name: str) -> None:
    assert [pair for pair in WITHOUT if proxy_for(pair[1], BOTH | {name: pair[0]})] == []
    assert [pair for pair in WITH if not proxy_for(pair[1], BOTH | {name: pair[0]})] == []


def test_a_proxy_that_cannot_be_used_is_named_without_its_password() -> None:
    with pytest.raises(NeedsOperatorError, match=r"socks5://proxy:1080") as caught:
        proxy_for("https://splunk", {"all_proxy": "socks5://u:hunter2@proxy:1080"})

    assert "hunter2" not in str(caught.value)
