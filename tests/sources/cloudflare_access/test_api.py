"""Requests to a simulated Cloudflare over real sockets: what comes back, and what goes out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any, cast

import pytest
import trustme
from aiohttp import web

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.schema import MALFORMED_KEY
from forwarder.core.telemetry import TelemetryEvent
from forwarder.core.timing import SystemClock, format_us
from forwarder.simulator import (
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    VERIFY,
    Fault,
    RatePolicy,
    Simulator,
    SimulatorSettings,
    Token,
    unreadable_row,
)
from forwarder.sources.cloudflare_access.account import FILTERS, AccountConfig, parameters
from forwarder.sources.cloudflare_access.answers import (
    ACCESS_REQUESTS,
    IDENTITY_PROVIDERS,
    SCIM_UPDATES,
    RequestRefusedError,
    ThrottledError,
)
from forwarder.sources.cloudflare_access.api import Api, TokenStatus
from forwarder.sources.cloudflare_access.events import (
    BodyRepaired,
    RequestMade,
    TokenBlocked,
)
from forwarder.sources.cloudflare_access.rate_limit import RateLimiter
from forwarder.transport.http import AnswerTooLargeError

PAGE = (("limit", "5"), ("per_page", "5"))


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorSettings(rate=1, scim_rate=1, history=60)) as started:
        yield started


@asynccontextmanager
async def client(
    url: str, happenings: list[TelemetryEvent] | None = None, *, seconds: float = 5.0, **given: Any
) -> AsyncIterator[Api]:
    environ = given.pop("environ", {})
    settings = {
        "account_id": DEFAULT_ACCOUNT,
        "name": "acme",
        "api_url": url,
        **({} if "email" in given or "api_token_file" in given else {"api_token": DEFAULT_TOKEN}),
        **given,
    }
    config, clock = AccountConfig.model_validate(settings), SystemClock()
    api = Api(
        config,
        RateLimiter(clock, [config.rate_limit] if config.rate_limit else ()),
        clock,
        user_agent="forwarder/1.2.3",
        emit=(happenings if happenings is not None else []).append,
        answer_seconds=seconds,
        environ=environ,
    )
    try:
        yield api
    finally:
        await api.aclose()


@asynccontextmanager
async def serving(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]], tls: SSLContext | None = None
) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def nothing(_: web.Request) -> web.StreamResponse:
    return web.json_response({"success": True, "result": []})


async def test_rows_come_back(simulator: Simulator) -> None:
    async with client(simulator.url) as api:
        answer = await api.get(ACCESS_REQUESTS, PAGE)

    assert len(answer.rows) == answer.per_page == 5
    assert answer.server_time_us
    assert answer.ray


async def test_what_goes_out_is_what_cloudflare_documents() -> None:
    seen: list[web.Request] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        return await nothing(request)

    async with serving(handle) as url, client(url) as api:
        await api.get(SCIM_UPDATES, [("idp_id", "a b"), ("idp_id", "c&d"), ("email", "x+y@z")])

    (request,) = seen
    assert request.path == f"/accounts/{DEFAULT_ACCOUNT}/access/logs/scim/updates"
    assert request.query.getall("idp_id") == ["a b", "c&d"]
    assert request.query["email"] == "x+y@z"
    assert request.headers["Authorization"] == f"Bearer {DEFAULT_TOKEN}"
    assert request.headers["User-Agent"] == "forwarder/1.2.3"
    assert request.headers["Accept-Encoding"] == "gzip"


async def test_an_api_key_goes_out_with_its_email() -> None:
    key = Token("key", email="me@example.com")
    settings = SimulatorSettings(tokens=(key,), rate=0, scim_rate=0)
    async with (
        Simulator(settings) as simulator,
        client(simulator.url, email="me@example.com", api_key="key") as api,
    ):
        assert (await api.get(ACCESS_REQUESTS)).rows == []
        assert await api.verify_token() is None


async def test_a_changed_token_file_is_read_again(simulator: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("expired-token\n")
    async with client(simulator.url, api_token_file=str(file)) as api:
        with pytest.raises(RequestRefusedError, match="token is not valid"):
            await api.get(ACCESS_REQUESTS, PAGE)
        file.write_text(f"{DEFAULT_TOKEN}\n")

        assert (await api.get(ACCESS_REQUESTS, PAGE)).rows


@pytest.mark.parametrize("token", ["Bearer abc", '"quoted"', "two\nlines", "café"])
async def test_a_token_that_is_none_is_refused_before_it_goes_out(token: str) -> None:
    async with client("http://127.0.0.1:9", api_token=token) as api:
        with pytest.raises(NeedsOperatorError, match="characters") as caught:
            await api.get(ACCESS_REQUESTS)

    assert token not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (Fault("html", status=502), TransientError, "HTTP 502"),
        (Fault("html", status=403), RequestRefusedError, "HTTP 403"),
        (Fault("error", status=403), RequestRefusedError, "code 10000"),
        (Fault("error", status=500, code=971), ThrottledError, "code 971"),
        (Fault("unsuccessful", code=12130), RequestRefusedError, "HTTP 200, code 12130"),
        (Fault("body", status=200, body="<html>"), TransientError, "no JSON"),
        (Fault("truncated"), TransientError, "cut short"),
        (Fault("cut_off"), TransientError, "broke"),
        (Fault("reset", times=None), TransientError, "broke"),
        (Fault("hang"), TransientError, "did not answer within 0.5 s"),
        (Fault("redirect", body="http://127.0.0.1:9/"), RequestRefusedError, "redirect"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
async def test_each_fault_says_what_to_do(
    simulator: Simulator, fault: Fault, kind: type[TransientError], said: str
) -> None:
    simulator.faults.add(fault)
    async with client(simulator.url, seconds=0.5) as api:
        with pytest.raises(kind) as caught:
            await api.get(ACCESS_REQUESTS, PAGE)
        simulator.faults.remove()

    assert isinstance(caught.value, NeedsOperatorError) is (kind is RequestRefusedError)
    assert said in str(caught.value)
    assert DEFAULT_TOKEN not in str(caught.value)


async def test_a_429_blocks_the_token_and_is_reported(simulator: Simulator) -> None:
    simulator.faults.add(Fault("throttled", retry_after=1))
    happenings: list[TelemetryEvent] = []
    async with client(simulator.url, happenings) as api:
        with pytest.raises(ThrottledError) as caught:
            await api.get(ACCESS_REQUESTS, PAGE)
        await api.get(
            SCIM_UPDATES, [("idp_id", simulator.directory(DEFAULT_ACCOUNT).provisioning()[0])]
        )

    assert caught.value.retry_after == pytest.approx(1.0, abs=0.2)
    first, blocked, second = happenings
    assert isinstance(first, RequestMade)
    assert isinstance(blocked, TokenBlocked)
    assert isinstance(second, RequestMade)
    assert second.waited == pytest.approx(1.0, abs=0.2)


async def test_a_quota_that_is_smaller_than_the_settings_say_is_obeyed() -> None:
    settings = SimulatorSettings(rate=0, scim_rate=0, policy=RatePolicy(10, 60))
    happenings: list[TelemetryEvent] = []
    async with Simulator(settings) as simulator, client(simulator.url, happenings) as api:
        for _ in range(3):
            await api.get(ACCESS_REQUESTS)

    left = [one.budget_left for one in happenings if isinstance(one, RequestMade)]
    assert left == [959, 6, 5], "80 % of 10, once Cloudflare has said so"


async def test_every_request_is_reported_whatever_became_of_it(simulator: Simulator) -> None:
    simulator.faults.add(Fault("html"), Fault("cut_off"))
    happenings: list[TelemetryEvent] = []
    async with client(simulator.url, happenings) as api:
        for _ in range(2):
            with pytest.raises(TransientError):
                await api.get(ACCESS_REQUESTS)
        await api.get(ACCESS_REQUESTS)

    made = [one for one in happenings if isinstance(one, RequestMade)]
    assert [one.outcome for one in made] == ["5xx", "none", "2xx"]
    assert {(one.account, one.endpoint) for one in made} == {("acme", "access_requests")}
    assert all(0 < one.seconds < 5 for one in made)
    assert [one.budget_left for one in made] == [959, 958, 957]


async def test_unreadable_rows_arrive_marked_and_are_reported(simulator: Simulator) -> None:
    now_us = SystemClock().now_us()
    row = {"created_at": format_us(now_us), "ray_id": "8a1c5e2f00000003"}
    simulator.add(DEFAULT_ACCOUNT, "access_requests", unreadable_row("bad_utf8", row))
    happenings: list[TelemetryEvent] = []
    async with client(simulator.url, happenings) as api:
        answer = await api.get(ACCESS_REQUESTS, (("since", format_us(now_us)), *PAGE))

    assert (len(answer.rows), answer.malformed, answer.repaired) == (1, 1, True)
    assert answer.rows[0].items() >= row.items()
    assert MALFORMED_KEY in answer.rows[0]
    assert answer.ray
    assert BodyRepaired("acme", "access_requests", 1, 1, answer.ray) in happenings


async def test_a_compressed_answer_is_read_and_an_endless_one_is_not() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        endless = "endless" in request.query
        body = b" " * (2**24 + 1) if endless else b'{"success":true,"result":[{"a":1}]}'
        answer = web.Response(body=body, content_type="application/json")
        answer.enable_compression(web.ContentCoding.gzip)
        return answer

    async with serving(handle) as url, client(url) as api:
        assert (await api.get(ACCESS_REQUESTS)).rows == [{"a": 1}]
        with pytest.raises(AnswerTooLargeError):
            await api.get(ACCESS_REQUESTS, [("endless", "1")])


async def test_a_redirect_takes_no_credentials_elsewhere() -> None:
    seen: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        return await nothing(request)

    async with serving(elsewhere) as target:

        async def handle(_: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(target)

        async with serving(handle) as url, client(url) as api:
            with pytest.raises(RequestRefusedError, match="redirect"):
                await api.get(ACCESS_REQUESTS)

    assert seen == []


async def test_a_private_authority_is_trusted_when_it_is_named(tmp_path: Path) -> None:
    authority, tls = trustme.CA(), SSLContext(PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with serving(nothing, tls) as url:
        async with client(url, tls={"ca_file": str(tmp_path / "ca.pem")}) as api:
            assert (await api.get(ACCESS_REQUESTS)).rows == []
        async with client(url) as api:
            with pytest.raises(NeedsOperatorError, match="unknown authority"):
                await api.get(ACCESS_REQUESTS)


async def test_a_proxy_of_the_settings_or_the_environment_is_used() -> None:
    seen: list[str] = []

    async def proxy(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Proxy-Authorization", "") + request.host)
        return await nothing(request)

    async with serving(proxy) as url:
        async with client("http://api.example", environ={"HTTP_PROXY": url}) as api:
            await api.get(ACCESS_REQUESTS)
        login = {"proxy_username": "u", "proxy_password": "p"}
        async with client("http://api.example", proxy=url, **cast("Any", login)) as api:
            await api.get(ACCESS_REQUESTS)

    assert seen == ["api.example", "Basic dTpwapi.example"]


async def test_no_server_at_all_is_a_passing_fault() -> None:
    async with client("http://127.0.0.1:9") as api:
        with pytest.raises(TransientError, match="no connection to http://127") as caught:
            await api.get(ACCESS_REQUESTS)

    assert type(caught.value) is TransientError


async def test_the_servers_time_is_told_also_to_a_token_that_may_nothing() -> None:
    settings = SimulatorSettings(clock_offset=3600)
    async with Simulator(settings) as simulator, client(simulator.url, api_token="x") as api:
        ahead_us = await api.server_time_us() - SystemClock().now_us()

    assert ahead_us / 1e6 == pytest.approx(3600, abs=2)


async def test_a_time_that_is_not_told_is_a_passing_fault(simulator: Simulator) -> None:
    simulator.faults.add(Fault("no_date"))
    async with client(simulator.url) as api:
        with pytest.raises(TransientError, match="does not say the time"):
            await api.server_time_us()


@pytest.mark.parametrize("owner", ["account", "user"])
@pytest.mark.parametrize("status", ["active", "expired"])
async def test_a_token_is_verified_where_it_is_known(owner: Any, status: Any) -> None:
    token = Token(DEFAULT_TOKEN, kind=owner, status=status)
    settings = SimulatorSettings(tokens=(token,))
    async with Simulator(settings) as simulator, client(simulator.url) as api:
        found = await api.verify_token()

    assert found == TokenStatus(owner, status)


async def test_an_unknown_token_is_refused(simulator: Simulator) -> None:
    async with client(simulator.url, api_token="unknown") as api:
        with pytest.raises(RequestRefusedError) as caught:
            await api.verify_token()

    assert caught.value.about == "token"
    assert simulator.requests.counts[VERIFY] == 2


@pytest.mark.parametrize("endpoint", [ACCESS_REQUESTS, SCIM_UPDATES, IDENTITY_PROVIDERS])
async def test_a_missing_permission_is_named(endpoint: Any) -> None:
    settings = SimulatorSettings(tokens=(Token(DEFAULT_TOKEN, permissions=frozenset()),))
    async with Simulator(settings) as simulator, client(simulator.url) as api:
        with pytest.raises(RequestRefusedError) as caught:
            await api.get(endpoint)

    assert caught.value.about == "permission"
    assert endpoint.permission in caught.value.hint


SAMPLES: dict[str, str] = {
    "true or false": "true",
    "a UUID": DEFAULT_ACCOUNT,
    "up to 16 hexadecimal digits": "8a1c",
    "two letters (ISO 3166), or T1 for Tor": "DE",
}


@pytest.mark.parametrize("endpoint", [ACCESS_REQUESTS, SCIM_UPDATES])
async def test_every_filter_is_taken_by_the_api(simulator: Simulator, endpoint: Any) -> None:
    """The simulator refuses values that Cloudflare does not document."""
    idp = simulator.directory(DEFAULT_ACCOUNT).provisioning()[0]
    query: dict[str, Any] = {}
    for name, found in FILTERS[endpoint.name].items():
        words = found.meaning.removeprefix("one of ").split(", ")
        query[name] = (
            words if found.repeats and len(words) > 1 else SAMPLES.get(found.meaning, words[0])
        )
    query |= {"user_id": "023e105f-4ece-48ad-9ca3-1a8372d0c353"} if "user_id" in query else {}
    async with client(simulator.url) as api:
        await api.get(endpoint, [*parameters(endpoint.name, query), ("idp_id", idp)])


async def test_closing_twice_or_unused_does_no_harm() -> None:
    async with client("http://127.0.0.1:9") as api:
        await api.aclose()


async def test_a_cancelled_request_ends_its_turn(simulator: Simulator) -> None:
    simulator.faults.add(Fault("hang"))
    async with client(simulator.url, rate_limit={"requests": 1, "per": "1s", "share": 1}) as api:
        task = asyncio.create_task(api.get(ACCESS_REQUESTS))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert (await api.get(ACCESS_REQUESTS)).rows
