"""What no push could pass, or anybody could, is reported before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.config.conftest import GOOD

SECRET = "0123456789abcdef0123456789abcdef"
Build = Callable[..., Any]
Faults = Callable[..., list[str]]


def receiver(
    listen: str, secret: str = SECRET, admin: str = "127.0.0.1:9464", more: str = ""
) -> str:
    keys = f'listen: "{listen}", secret: "{secret}"{more}'
    return f'{GOOD}logpush: {{ {keys} }}\nadmin: {{ listen: "{admin}" }}\n'


@pytest.mark.parametrize(
    ("listen", "admin"),
    [
        ("127.0.0.1:9464", "127.0.0.1:9464"),
        ("0.0.0.0:9464", "127.0.0.1:9464"),
        ("[::1]:9464", "[::]:9464"),
    ],
)
def test_two_servers_cannot_share_a_port(faults_of: Faults, listen: str, admin: str) -> None:
    (fault,) = faults_of(receiver(listen, admin=admin))

    assert fault.startswith("config.yaml:9: logpush.listen: the port is that of admin.listen")


@pytest.mark.parametrize(
    ("listen", "admin"),
    [("127.0.0.1:9465", "127.0.0.1:9464"), ("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:1", "off")],
)
def test_servers_apart_are_no_fault(settings_of: Build, listen: str, admin: str) -> None:
    assert settings_of(receiver(listen, admin=admin)).warnings == ()


def test_a_secret_that_no_header_can_have_is_a_fault(faults_of: Faults) -> None:
    (fault,) = faults_of(receiver("127.0.0.1:1", SECRET + "\\u0007"))

    assert "logpush.secret: holds a line end or another control character" in fault
    assert SECRET not in fault


def test_a_header_may_have_a_tab(settings_of: Build) -> None:
    assert settings_of(receiver("127.0.0.1:1", SECRET + "\\tx")).warnings == ()


@pytest.mark.parametrize(
    ("listen", "secret", "words"),
    [
        ("127.0.0.1:1", "abc", ["fewer than 32 characters"]),
        ("localhost:1", SECRET, []),
        ("10.1.2.3:1", SECRET, ["over plain HTTP"]),
        ("receiver.example:1", f"{SECRET}\\nabc", ["fewer than 32", "over plain HTTP"]),
    ],
)
def test_what_lets_others_push_is_a_warning(
    settings_of: Build, listen: str, secret: str, words: list[str]
) -> None:
    warnings = settings_of(receiver(listen, secret)).warnings

    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))


@pytest.mark.parametrize("host", ["replica-1:9465", "http://replica-1", "", "a b"])
def test_what_no_replica_could_be_reached_at_is_a_fault(faults_of: Faults, host: str) -> None:
    (fault,) = faults_of(receiver("127.0.0.1:1", more=f', peer: {{ host: "{host}" }}'))

    assert fault.startswith("config.yaml:9: logpush.peer.host: ")


def test_a_receiver_with_tls_may_listen_anywhere(settings_of: Build, tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    pem.touch()
    tls = f", tls: {{ cert_file: {pem}, key_file: {pem} }}"

    assert settings_of(receiver("10.1.2.3:1", more=tls)).warnings == ()
