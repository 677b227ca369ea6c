"""Probes are for everybody; everything else is for those who know the token."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from forwarder.admin.server import Access, AdminServer
from forwarder.transport.settings import Secret
from tests.admin.conftest import FakeDaemon

GUARDED = ("/", "/status", "/history", "/metrics", "/nowhere", "/livez/", "/LIVEZ", "//livez")
ACCESS = Access(Secret("s3cret-tökén"))


@pytest.mark.parametrize("path", GUARDED)
@given(authorization=st.text())
def test_nothing_but_the_token_opens(path: str, authorization: str) -> None:
    assert not ACCESS.granted(path, authorization)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
@given(authorization=st.text())
def test_probes_are_open_whatever_they_send(path: str, authorization: str) -> None:
    assert ACCESS.granted(path, authorization)


@given(user=st.text(st.characters(exclude_characters=":", codec="utf-8")))
def test_browsers_send_the_token_as_a_password_of_any_user(user: str) -> None:
    word = b64encode(f"{user}:s3cret-tökén".encode()).decode()

    assert ACCESS.granted("/", f"Basic {word}")
    assert ACCESS.granted("/", "Bearer s3cret-tökén")
    assert not ACCESS.granted("/", f"Bearer {word}")


def test_without_a_token_in_the_settings_all_is_open() -> None:
    assert Access(None).granted("/status", "")


def test_a_token_whose_file_is_gone_opens_to_nobody(tmp_path: Path) -> None:
    gone = Access(Secret(path=tmp_path / "gone"))

    assert not gone.granted("/status", "Bearer ")
    assert not gone.granted("/status", "")


async def test_a_browser_is_asked_for_a_password_and_a_program_for_a_token(
    http: ClientSession,
) -> None:
    server = AdminServer(FakeDaemon(), token=Secret("s3cret-token"))
    url = await server.start("127.0.0.1", 0)
    async with http.get(url + "/") as answer:
        offered = answer.headers.getall("WWW-Authenticate")
    typed = {"Authorization": f"Basic {b64encode(b'me:s3cret-token').decode()}"}
    async with http.get(url + "/", headers=typed) as answer:
        status = answer.status
    await server.aclose()

    assert [one.partition(" ")[0] for one in offered] == ["Bearer", "Basic"]
    assert status == 200
