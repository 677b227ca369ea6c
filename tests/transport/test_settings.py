"""Equivalent spellings of addresses and secrets are equal, and what cannot be meant is refused."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from forwarder.core.errors import NeedsOperatorError
from forwarder.sinks.elasticsearch import ElasticsearchConfig
from forwarder.sinks.kafka.config import KafkaConfig
from forwarder.sinks.relp import RelpConfig
from forwarder.sinks.splunk_hec import SplunkHecConfig
from forwarder.sinks.syslog import SyslogConfig
from forwarder.transport.http import HttpSettings
from forwarder.transport.settings import Secret, TlsSettings, split_address

UNDERSTOOD = {
    "siem": ("siem", None),
    "siem.example:5514": ("siem.example", 5514),
    "127.0.0.1:5514": ("127.0.0.1", 5514),
    "::1": ("::1", None),
    "[::1]": ("::1", None),
    "[::1]:5514": ("::1", 5514),
    "[fe80::1%eth0]:5514": ("fe80::1%eth0", 5514),
}
REFUSED = [
    "tcp://siem:514",
    "https://siem",
    "siem/path",
    "siem:0",
    "siem:99999",
    "siem:port",
    "siem\n",
    "two hosts",
    "a:1,b:2",
    "[::1]:70000",
    "[siem]:514",
    "user@siem:514",
    "siem:٣",
    "",
]


def test_host_and_port_are_told_apart() -> None:
    assert {text: split_address(text) for text in UNDERSTOOD} == UNDERSTOOD


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_no_address_is_refused_with_what_to_write(address: str) -> None:
    with pytest.raises(ValueError, match=r"write host, host:port|ports are 1 to 65535"):
        split_address(address)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (SyslogConfig, "host"),
        (SyslogConfig, "hosts"),
        (RelpConfig, "host"),
        (KafkaConfig, "bootstrap_servers"),
    ],
)
def test_every_sink_refuses_such_an_address_before_it_starts(config: Any, key: str) -> None:
    for address in ("tcp://siem:514", "siem:99999", "siem:0", "siem\n"):
        with pytest.raises(ValidationError):
            config.model_validate({key: address if key == "host" else [address]})


def test_the_port_may_stand_with_the_host() -> None:
    config = SyslogConfig(host="127.0.0.1:5514", transport="tcp")

    assert config.addresses(514) == [("127.0.0.1", 5514)]
    with pytest.raises(ValidationError, match="another port"):
        SyslogConfig(host="127.0.0.1:5514", port=6514)


@pytest.mark.parametrize("url", ["https://splunk:0", "https://splunk:99999"])
def test_the_port_of_a_url_is_in_range(url: str) -> None:
    with pytest.raises(ValidationError):
        HttpSettings(url=url)


@pytest.mark.parametrize("name", ["https://splunk", "splunk:8088"])
def test_a_server_name_is_a_name(name: str) -> None:
    with pytest.raises(ValidationError):
        TlsSettings(server_name=name)


def test_white_space_around_a_secret_is_left_out_wherever_it_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t0ken\n")
    given = {"url": "https://splunk", "token": "t0ken\n"}

    assert SplunkHecConfig.model_validate(given).token.reveal() == "t0ken"
    assert Secret(path=file).reveal() == Secret(" t0ken\r\n").reveal() == "t0ken"
    assert Secret("t0ken\n") == Secret("t0ken")
    with pytest.raises(ValidationError):
        SplunkHecConfig.model_validate({**given, "token": " \n"})


def test_a_byte_order_mark_is_no_part_of_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"\xef\xbb\xbfthe-secret\r\n")

    assert Secret(path=file).reveal() == "the-secret"


def test_an_api_key_that_is_not_encoded_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("id:key")
    from_file = {"url": "https://es", "api_key_file": str(file)}

    with pytest.raises(ValidationError, match="base64"):
        ElasticsearchConfig.model_validate({"url": "https://es", "api_key": "id:key"})
    with pytest.raises(NeedsOperatorError, match="base64"):
        ElasticsearchConfig.model_validate(from_file).authorization()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "it is not a regular file"),
        (lambda path: path.write_bytes(b"x" * 65_537), "it is larger than 64 KiB"),
    ],
)
def test_a_file_that_can_be_no_secret_is_refused_without_waiting(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    """It is read on the event loop, which a named pipe without a writer would stop for ever."""
    file = tmp_path / "token"
    make(file)
    with pytest.raises(NeedsOperatorError, match=reason):
        Secret(path=file).reveal()
    file.unlink()
    file.write_text("t0ken")
    secret = Secret(path=file)
    secret.reveal()
    file.unlink()
    make(file)

    assert secret.reveal() == "t0ken"
