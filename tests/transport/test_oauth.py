"""Tokens are asked for once, renewed in time and after a refusal, and refusals are named."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.testing.fake_server import FakeServer
from forwarder.testing.fake_sinks import sink_context
from forwarder.transport.http_destination import HttpAuth, HttpDestination
from forwarder.transport.oauth import OAuthSettings, TokenSource, read_token


class Hands:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def now_us(self) -> int:
        return int(self.now * 1_000_000)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class TokenServer(FakeServer):
    """Gives out tokens for 100 seconds, and takes the last one that is not revoked elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.presented: list[str] = []
        self.status = 200
        self.valid = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/in":
            self.presented.append(request.headers["Authorization"])
            return web.Response(status=200 if self.presented[-1] == self.valid else 401)
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append((request.headers.get("Authorization", ""), form))
        self.valid = f"Bearer token-{len(self.asked)}"
        answer = {"access_token": self.valid.split()[1], "expires_in": 100}
        return web.json_response(answer, status=self.status)


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


def settings(server: TokenServer, **more: Any) -> dict[str, Any]:
    known = {"token_url": f"{server.url}/token", "client_id": "forwarder", "scope": "siem"}
    return known | ({"client_secret": "hush"} if "client_assertion_file" not in more else {}) | more


def source(server: TokenServer, clock: Hands, **more: Any) -> TokenSource:
    return TokenSource(OAuthSettings.model_validate(settings(server, **more)), clock)


async def test_a_token_is_kept_until_shortly_before_it_expires(
    server: TokenServer,
) -> None:
    clock = Hands()
    credentials = source(server, clock)

    first = [await credentials.token(), await credentials.token()]
    clock.now += 79
    first.append(await credentials.token())
    clock.now += 2
    second = await credentials.token()

    assert first == ["token-1"] * 3
    assert second == "token-2"
    assert server.asked[0] == (
        "Basic Zm9yd2FyZGVyOmh1c2g=",
        {"grant_type": "client_credentials", "scope": "siem"},
    )


async def test_a_refusal_needs_an_operator_and_shows_no_secret(
    server: TokenServer,
) -> None:
    server.status = 401

    with pytest.raises(NeedsOperatorError, match="answers 401") as caught:
        await source(server, Hands()).token()

    assert "client_secret" in caught.value.hint
    assert "hush" not in str(caught.value)


async def test_a_token_server_that_is_away_is_an_outage(
    server: TokenServer,
) -> None:
    server.status = 503
    credentials = source(server, Hands())

    with pytest.raises(TransientError) as caught:
        await credentials.token()
    server.status = 200

    assert not isinstance(caught.value, NeedsOperatorError)
    assert await credentials.token() == "token-2"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"access_token":"x","expires_in":[]}'])
def test_an_answer_without_a_token_needs_an_operator(body: bytes) -> None:
    with pytest.raises(NeedsOperatorError, match="holds no token"):
        read_token(200, body, "https://id")


def test_a_token_without_a_life_is_kept_for_five_minutes() -> None:
    assert read_token(200, b'{"access_token":"x"}', "https://id") == ("x", 300.0)


@pytest.mark.parametrize(
    ("given", "life"),
    [("0", 5.0), ("-60", 5.0), ("NaN", 5.0), ('"3599"', 3599.0), ("1e999", 86_400.0)],
)
def test_a_life_that_cannot_be_meant_neither_floods_the_token_server_nor_lasts(
    given: str, life: float
) -> None:
    body = f'{{"access_token":"x","expires_in":{given}}}'.encode()

    assert ("x", life) == read_token(200, body, "https://id")


async def test_a_secret_can_go_into_the_form_and_a_platforms_token_takes_its_place(
    server: TokenServer, tmp_path: Path
) -> None:
    assertion = tmp_path / "token"
    assertion.write_text("platform-1")
    workload = source(server, Hands(), client_assertion_file=str(assertion))

    await source(server, Hands(), client_auth="post", audience="a").token()
    first = await workload.token()
    assertion.write_text("platform-two")
    await workload.token(refused=first)

    assert [header for header, _ in server.asked] == [""] * 3
    known = {"grant_type": "client_credentials", "client_id": "forwarder", "scope": "siem"}
    assert server.asked[0][1] == known | {"client_secret": "hush", "audience": "a"}
    assertions = [form["client_assertion"] for _, form in server.asked[1:]]
    assert assertions == ["platform-1", "platform-two"]


async def test_a_token_that_the_destination_refuses_is_renewed_once(server: TokenServer) -> None:
    config = HttpAuth.model_validate({"url": server.url, "oauth2": settings(server)})
    http = HttpDestination(config, sink_context())
    url = f"{server.url}/in"
    answers = [(await http.ask("POST", url)).status]
    server.valid = "revoked"
    answers.append((await http.ask("POST", url)).status)
    await http.aclose()

    assert answers == [200, 200]
    assert server.presented == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


async def test_a_destination_that_refuses_every_token_is_asked_twice(server: TokenServer) -> None:
    config = HttpAuth.model_validate({"url": server.url, "oauth2": settings(server)})
    http = HttpDestination(config, sink_context())
    server.valid = "nobody"

    async def nobody(_: web.Request) -> web.StreamResponse:
        return web.Response(status=401)

    await source(server, Hands()).token()
    server.script.extend([_through, nobody, _through, nobody])
    answer = await http.ask("POST", f"{server.url}/in")
    await http.aclose()

    assert answer.status == 401
    assert len(server.asked) == 3


async def _through(_: web.Request) -> None:
    return None


@pytest.mark.parametrize(
    "given", [{"client_secret": None}, {"client_assertion": "x"}, {"token_url": "ftp://id"}]
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any]) -> None:
    known = {"token_url": "https://id/token", "client_id": "c", "client_secret": "hush"}
    with pytest.raises(ValueError, match=r"client_secret|http"):
        OAuthSettings.model_validate(known | given)
