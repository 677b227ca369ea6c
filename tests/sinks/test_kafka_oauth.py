"""Tokens for OAUTHBEARER are asked for once, renewed in time, and refusals are named."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.kafka.config import SaslSettings
from forwarder.sinks.kafka.producers import ClientCredentials, read_token


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


@dataclass
class TokenServer:
    url: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    status: int = 200


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    found = TokenServer()

    async def token(request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        found.asked.append((request.headers["Authorization"], form))
        answer = {"access_token": f"token-{len(found.asked)}", "expires_in": 100}
        return web.json_response(answer, status=found.status)

    application = web.Application()
    application.router.add_post("/token", token)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
    yield found
    await runner.cleanup()


@pytest.fixture
def make(server: TokenServer) -> Callable[[Hands], ClientCredentials]:
    settings = {
        "mechanism": "OAUTHBEARER",
        "token_url": server.url,
        "client_id": "forwarder",
        "client_secret": "hush",
        "scope": "kafka",
    }
    return lambda clock: ClientCredentials(SaslSettings.model_validate(settings), clock)


async def test_a_token_is_kept_until_shortly_before_it_expires(
    server: TokenServer, make: Callable[[Hands], ClientCredentials]
) -> None:
    clock = Hands()
    credentials = make(clock)

    first = [await credentials.token(), await credentials.token()]
    clock.now += 79
    first.append(await credentials.token())
    clock.now += 2
    second = await credentials.token()

    assert first == ["token-1"] * 3
    assert second == "token-2"
    assert server.asked[0] == (
        "Basic Zm9yd2FyZGVyOmh1c2g=",
        {"grant_type": "client_credentials", "scope": "kafka"},
    )


async def test_a_refusal_needs_an_operator_and_shows_no_secret(
    server: TokenServer, make: Callable[[Hands], ClientCredentials]
) -> None:
    server.status = 401

    with pytest.raises(NeedsOperatorError, match="answers 401") as caught:
        await make(Hands()).token()

    assert "sasl.client_secret" in caught.value.hint
    assert "hush" not in str(caught.value)


async def test_a_token_server_that_is_away_is_an_outage(
    server: TokenServer, make: Callable[[Hands], ClientCredentials]
) -> None:
    server.status = 503
    credentials = make(Hands())

    with pytest.raises(TransientError) as caught:
        await credentials.token()
    server.status = 200

    assert not isinstance(caught.value, NeedsOperatorError)
    assert await credentials.token() == "token-2"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"access_token":"x","expires_in":[]}'])
def test_an_answer_without_a_token_needs_an_operator(body: bytes) -> None:
    with pytest.raises(NeedsOperatorError, match="holds no token"):
        read_token(200, body)


def test_a_token_without_a_life_is_kept_for_five_minutes() -> None:
    assert read_token(200, b'{"access_token":"x"}') == ("x", 300.0)
