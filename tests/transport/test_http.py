"""The HTTP client tells everything that can go wrong in our words, once, and shows no secret."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.transport.http import Answer, HttpClient, HttpSettings
from forwarder.transport.settings import TlsSettings, clean_url, origin
from forwarder.transport.tls import ServerTls
from tests.transport.conftest import Papers, serving

SECRET = "s3cret-path"


def client(url: str, environ: dict[str, str] | None = None, **settings: Any) -> HttpClient:
    return HttpClient(HttpSettings(url=url, **settings), "forwarder/test", environ=environ or {})


async def post(url: str, environ: dict[str, str] | None = None, **settings: Any) -> Answer:
    http = client(url, environ, **settings)
    try:
        return await http.request("POST", f"{url}/{SECRET}", body=b"row", headers={"A": SECRET})
    finally:
        await http.aclose()


async def failure(url: str, environ: dict[str, str] | None = None, **rest: Any) -> TransientError:
    with pytest.raises(TransientError) as caught:
        await post(url, environ, **rest)
    link: BaseException | None = caught.value
    while link is not None:
        assert SECRET not in f"{link!s}{link!r}"
        link = link.__cause__
    return caught.value


async def test_an_answer_has_status_headers_and_the_whole_body() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.headers["User-Agent"] == "forwarder/test"
        return web.Response(status=418, body=await request.read(), headers={"Retry-After": "3"})

    async with serving(handler) as url:
        answer = await post(url)

    assert (answer.status, answer.body, answer.retry_after(0)) == (418, b"row", 3.0)


async def test_a_redirect_is_not_followed() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": str(request.url) + "/again"})

    async with serving(handler) as url:
        assert (await post(url)).status == 307


async def test_a_cookie_comes_back_with_the_next_request() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.Response(text=request.cookies.get("node", "none"))
        answer.set_cookie("node", "seven")
        return answer

    async with serving(handler) as url:
        http = client(url)
        bodies = [(await http.request("GET", url)).body for _ in range(2)]
        await http.aclose()

    assert bodies == [b"none", b"seven"]


async def test_a_refused_connection_is_an_outage() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = await failure(f"http://127.0.0.1:{taken.getsockname()[1]}")

    assert not isinstance(error, NeedsOperatorError)
    assert "127.0.0.1" in str(error)


async def test_a_server_that_hangs_up_or_resets_is_an_outage_and_one_request() -> None:
    requests = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal requests
        requests += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(handler) as url:
        await failure(url)

    assert requests == 1


async def test_a_half_read_body_is_an_outage() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return answer

    async with serving(handler) as url:
        await failure(url)


async def test_an_endless_answer_is_cut() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"x" * 65_536)

    async with serving(handler) as url:
        assert "sent an answer of more than" in str(await failure(url))


async def test_a_server_that_never_answers_is_given_up() -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async with serving(handler) as url:
        error = await failure(url, response_timeout=0.1)

    assert "0.1 s" in str(error)


async def test_a_private_authority_is_trusted_when_it_is_named(papers: Papers) -> None:
    own = TlsSettings(cert_file=papers.cert_file, key_file=papers.key_file)

    async with serving(_hello, tls=ServerTls(own).context()) as url:
        stranger = await failure(url)
        answer = await post(url, tls={"ca_file": papers.ca_file})

    assert isinstance(stranger, NeedsOperatorError)
    assert answer.status == 200


async def test_a_certificate_for_another_name_is_refused_unless_that_name_is_expected(
    papers: Papers,
) -> None:
    papers.issue("splunk.corp")
    own = TlsSettings(cert_file=papers.cert_file, key_file=papers.key_file)

    async with serving(_hello, tls=ServerTls(own).context()) as url:
        error = await failure(url, tls={"ca_file": papers.ca_file})
        answer = await post(url, tls={"ca_file": papers.ca_file, "server_name": "splunk.corp"})
        lax = await post(url, tls={"verify": False})

    assert isinstance(error, NeedsOperatorError)
    assert (answer.status, lax.status) == (200, 200)


async def test_a_server_that_demands_a_certificate_gets_ours(papers: Papers) -> None:
    files = {"cert_file": papers.cert_file, "key_file": papers.key_file}
    own = TlsSettings.model_validate({**files, "ca_file": papers.ca_file})

    async with serving(_hello, tls=ServerTls(own).context()) as url:
        await failure(url, tls={"ca_file": papers.ca_file})
        answer = await post(url, tls={"ca_file": papers.ca_file, **files})

    assert answer.status == 200


async def test_https_to_a_plain_server_asks_for_a_person() -> None:
    async with serving(_hello) as url:
        assert isinstance(await failure(url.replace("http:", "https:")), NeedsOperatorError)


async def test_a_proxy_of_the_environment_or_the_settings_is_used() -> None:
    seen = []

    async def proxy(request: web.Request) -> web.StreamResponse:
        seen.append((str(request.url), request.headers.get("Proxy-Authorization")))
        return web.Response()

    async with serving(proxy) as url:
        await post("http://splunk.example:8088", {"http_proxy": url})
        await post("http://splunk.example:8088", proxy=url, proxy_username="u", proxy_password="p")

    assert seen == [
        (f"http://splunk.example:8088/{SECRET}", None),
        (f"http://splunk.example:8088/{SECRET}", "Basic dTpw"),
    ]


async def test_a_message_names_the_proxy_that_was_used() -> None:
    async def proxy(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"http://u:hunter2@127.0.0.1:{nobody.getsockname()[1]}"
        refused = await failure("http://splunk.example:8088", {"http_proxy": away})
    async with serving(proxy) as url:
        tunnel = await failure("https://splunk.example:8088", {"https_proxy": url})
        answer = await post("http://splunk.example:8088", {"http_proxy": url})

    assert f"no connection to the proxy {away.replace('u:hunter2@', '')}" in str(refused)
    assert "no_proxy" in refused.hint
    assert f"the proxy {url}" in str(tunnel)
    assert answer.where == f"http://splunk.example:8088 (through the proxy {url})"


async def test_a_proxy_that_wants_a_password_asks_for_a_person() -> None:
    async def proxy(_: web.Request) -> web.StreamResponse:
        return web.Response(status=407)

    async with serving(proxy) as url:
        error = await failure("https://splunk.example:8088", proxy=url)

    assert isinstance(error, NeedsOperatorError)


async def test_passwords_of_netrc_never_replace_our_authorisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login x password y\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    seen = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers["Authorization"])
        return web.Response()

    async with serving(handler) as url:
        http = client(url)
        await http.request("GET", url, headers={"Authorization": "Splunk token"})
        await http.aclose()

    assert seen == ["Splunk token"]


@pytest.mark.parametrize(
    "url",
    [
        "splunk:8088",
        "ftp://splunk",
        "https://",
        "https://user:password@splunk",
        "https://splunk/#x",
        "https://splunk:port",
        "https://[::1",
    ],
)
def test_what_is_no_usable_url_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        HttpSettings(url=url)


def test_url_and_urls_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="one of url, url_file and urls"):
        HttpSettings(url="https://a", urls=("https://b",))
    with pytest.raises(ValueError, match="one of url, url_file and urls"):
        HttpSettings()

    assert HttpSettings(urls=("https://a/", "https://b")).addresses == ("https://a", "https://b")


def test_only_the_origin_of_a_url_is_shown() -> None:
    assert origin("https://hook.example:8443/t0ken?key=s") == "https://hook.example:8443"
    assert clean_url(" https://h/x/ ") == "https://h/x"


def test_the_scheme_may_be_in_capitals() -> None:
    """Otherwise nothing of ``tls`` would apply, and the proxy's password would go to the server."""
    assert HttpSettings(url="HTTPS://Splunk:8088").addresses == ("https://Splunk:8088",)


@pytest.mark.parametrize("url", ["https://a b", "https://a\\b", "https://a\nb", "https://a/b c"])
def test_a_url_holds_no_blank_and_no_backslash(url: str) -> None:
    with pytest.raises(ValueError, match="no http or https URL"):
        clean_url(url)


async def _hello(_: web.Request) -> web.StreamResponse:
    return web.Response(text="hello")


def test_an_address_out_of_a_file_is_shown_nowhere_and_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("https://collector.example/hush/\n")
    settings = HttpSettings(url_file=path)
    found = [settings.addresses]
    path.write_text("https://one.example/hush\nhttps://other.example/hush\n")
    found.append(settings.addresses)

    assert "hush" not in repr(settings) + settings.model_dump_json()
    assert found == [
        ("https://collector.example/hush",),
        ("https://one.example/hush", "https://other.example/hush"),
    ]


def test_a_file_without_an_address_needs_an_operator_and_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("hush://collector")
    with pytest.raises(NeedsOperatorError, match="no http or https URL") as caught:
        HttpSettings(url_file=path).addresses  # noqa: B018 - it is read here

    assert "hush:" not in str(caught.value)
    assert caught.value.__cause__ is None
