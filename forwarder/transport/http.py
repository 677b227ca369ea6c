"""The one HTTP client: no retries, no redirects, every wait bounded, no secret in an error.

    client = HttpClient(settings, user_agent="forwarder/1.0")
    answer = await client.request("POST", url, headers={...}, body=body)

Every answer is returned, whatever its status. Whatever fails below HTTP (names, connections,
certificates, proxies, time) is raised as a ``TransientError``. Sinks use it through
``forwarder.transport.http_destination``.
"""

from __future__ import annotations

import io
import os
import re
import ssl
from base64 import b64encode
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDictProxy
from pydantic import Field, PrivateAttr, model_validator

from forwarder.core.errors import NeedsOperatorError, TransientError, system_reason
from forwarder.core.telemetry import Emit, ignore
from forwarder.transport.settings import (
    Duration,
    PluginSettings,
    Secret,
    TlsSettings,
    Url,
    clean_url,
    origin,
)
from forwarder.transport.tls import Tls, explain_tls

# Bytes of an answer, unless a request says otherwise.
LARGEST_ANSWER = 4 * 2**20
_AT_ONCE = 2**20
# With less, aiohttp stops and resumes reading at every turn of the loop.
_READ_AHEAD = 2**20
# Seconds. Balancers drop idle connections after 30 or more; the next request would break.
_IDLE = 25.0
# Interim answers (1xx) before the answer; a server needs one or two.
_MOST_INTERIM = 16
_MOST_COOKIES = 32
# Bytes of an answer as they arrive: what is not a body (chunk extensions) counts here only.
_MOST_RECEIVED = 128 * 2**20
_PROXY_SETTINGS = "the proxy comes from the setting proxy, or from https_proxy and no_proxy"
_WITH_PORT = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+)):(?P<port>\d{1,5})")
_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?")
_LONGEST_WAIT = 3600.0


class HttpSettings(PluginSettings):
    """One or several URLs, and how to reach them."""

    url: Url | None = Field(None, description="address of the destination")
    url_file: Path | None = Field(
        None, description="file that holds the address, where it is a secret; several: one a line"
    )
    urls: tuple[Url, ...] = Field((), description="several addresses, instead of url")
    balance: Literal["failover", "round_robin"] = Field(
        "failover",
        description="failover uses the first address that works; round_robin uses all in turn",
    )
    tls: TlsSettings = Field(TlsSettings(), description="how https connections are protected")
    proxy: Url | None = Field(
        None, description="http or https proxy; otherwise https_proxy and no_proxy of the process"
    )
    proxy_username: str | None = Field(None, description="user for the proxy")
    proxy_password: Secret | None = Field(None, description="password for the proxy")
    connect_timeout: Duration = Field(
        10.0, description="longest time for resolving, connecting and the TLS handshake", gt=0
    )
    response_timeout: Duration = Field(
        30.0, description="longest time from the start of a request to the end of its answer", gt=0
    )
    gzip: bool = Field(True, description="compress request bodies")
    _secret_url: Secret | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _one_of_url_and_urls(self) -> HttpSettings:
        given = sum(map(bool, (self.url, self.url_file, self.urls)))
        if self._needs_url() and given != 1:
            raise ValueError("give one of url, url_file and urls")
        if self.url_file is not None:
            self._secret_url = Secret(path=self.url_file)
        return self

    def _needs_url(self) -> bool:
        """Return True if an address must be given; a sink may have another key for it."""
        return True

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the addresses in order of preference, without a slash at the end.

        Raises ``NeedsOperatorError`` if ``url_file`` cannot be read or holds anything else.
        """
        if self._secret_url is not None:
            return _urls_in(self._secret_url)
        return self.urls or ((self.url,) if self.url else ())

    def authorization(self) -> dict[str, str]:
        """Return the headers that log in, for one request; none unless overridden."""
        return {}


def _urls_in(secret: Secret) -> tuple[str, ...]:
    """Return the addresses of a ``url_file``, which has one a line."""
    try:
        return tuple(clean_url(line) for line in secret.reveal().split())
    except ValueError:
        # Without its cause: a traceback would show the line.
        raise NeedsOperatorError(
            f"{secret.path} holds no http or https URL", hint="write one address a line"
        ) from None


class AnswerTooLargeError(TransientError):
    """The answer has more bytes than the caller takes."""


class _FloodError(aiohttp.ClientError):
    """The server sends something without end."""


class _Protocol(ResponseHandler):
    """aiohttp's side of one connection, with bounds for what aiohttp takes without one."""

    _interim = 0
    _received = 0

    def set_response_params(self, **params: Any) -> None:
        """Begin a request on this connection."""
        self._interim = self._received = 0
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the connection."""
        self._received += len(data)
        if self._received <= _MOST_RECEIVED:
            super().data_received(data)
        else:
            self._give_up(f"an answer of more than {_MOST_RECEIVED} bytes")

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take one parsed head, whose message is the first element of ``data``."""
        self._interim += data[0].code < 200  # noqa: PLR2004 - 1xx
        if self._interim <= _MOST_INTERIM:
            super().feed_data(data, size)
        else:
            self._give_up("interim answers (1xx) without end")

    def _give_up(self, what: str) -> None:
        if self.exception() is None:
            error, payload = _FloodError(what), self._payload
            if payload is not None:
                payload.set_exception(error)
            self.abort()  # before the next line: it forgets the exception of this object
            self.set_exception(error)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read to its end; ``where`` names server and proxy for messages, without paths."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes = field(repr=False)
    where: str

    def retry_after(self, now_us: int) -> float | None:
        """Return the seconds that ``Retry-After`` asks for, or None."""
        return parse_retry_after(self.headers.get("Retry-After"), now_us)


class HttpClient:
    """Connections to one destination, opened at the first request in the running loop."""

    def __init__(
        self,
        settings: HttpSettings,
        user_agent: str,
        *,
        connections: int = 8,
        environ: Mapping[str, str] = os.environ,
        where: str = "",
        emit: Emit = ignore,
    ) -> None:
        """Open nothing yet; ``connections`` bounds how many requests run at once.

        ``emit`` gets the validity of certificates, and ``where`` says whose they are.
        """
        self._settings = settings
        self._user_agent = user_agent
        self._connections = connections
        self._environ = environ
        self._tls = Tls(settings.tls, where, emit)
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterable[bytes] | None = None,
        seconds: float | None = None,
        silence: float | None = None,
        largest: int = LARGEST_ANSWER,
    ) -> Answer:
        """Send one request and return its answer, read to the end.

        A body that comes in pieces is sent as they come. ``seconds`` bounds the whole request
        (``response_timeout`` unless given), ``silence`` the seconds without a byte of the answer.
        Raises ``TransientError`` for a failure on the way,
        ``AnswerTooLargeError`` for an answer of more than ``largest`` bytes and
        ``NeedsOperatorError`` for a certificate or proxy that only a person can fix.
        """
        limit = self._settings.response_timeout if seconds is None else seconds
        https = url.startswith("https:")
        proxy = self.proxy(url)
        shown = origin(proxy) if proxy else ""
        proxy_headers = self._proxy_headers()
        session = self._open_session()
        try:
            async with session.request(
                method,
                url,
                data=_payload(body),
                headers=_sendable({**(headers or {}), **({} if https else proxy_headers)}),
                allow_redirects=False,
                ssl=self._tls.context() if https else True,
                server_hostname=self._settings.tls.server_name,
                proxy=proxy,
                proxy_headers=proxy_headers if https else None,
                timeout=self._timeout(limit, silence or limit),
                read_bufsize=_READ_AHEAD,
            ) as response:
                text = await _read(response, largest)
                # A server with a new cookie in every answer would make requests grow for ever.
                if response.cookies and len(session.cookie_jar) > _MOST_COOKIES:
                    session.cookie_jar.clear()
                where = f"{origin(url)} (through the proxy {shown})" if shown else origin(url)
                return Answer(response.status, response.headers, text, where)
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError) as error:
            # A name that cannot be one, such as a label of 64 signs, is a UnicodeError.
            # A ClientResponseError holds the request with its secrets: it is not shown.
            cause = None if isinstance(error, aiohttp.ClientResponseError) else error
            raise connection_error(error, origin(url), limit, shown) from cause

    def proxy(self, url: str) -> str | None:
        """Return the URL of the proxy for a request to ``url``, or None for a direct connection."""
        return self._settings.proxy or proxy_for(url, self._environ)

    async def aclose(self) -> None:
        """Close all connections; idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # trust_env stays off: aiohttp would also take passwords out of ~/.netrc and put them in
            # place of the authorisation that the settings gave. Proxies are read by proxy_for.
            connector = aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=_IDLE, ttl_dns_cache=30
            )
            # There is no public way to choose the protocol; a test fails if this one is not used.
            connector._factory = partial(_Protocol, connector._loop)  # type: ignore[assignment] # noqa: SLF001
            self._session = aiohttp.ClientSession(
                connector=connector,
                # A balancer keeps us on one node by a cookie, also where the host is an address.
                cookie_jar=aiohttp.CookieJar(unsafe=True),
                headers={"User-Agent": self._user_agent},
                max_line_size=16_384,
                max_field_size=16_384,
            )
        return self._session

    def _proxy_headers(self) -> dict[str, str]:
        """Return the headers for the proxy, sent with a plain request or with CONNECT alone."""
        user, password = self._settings.proxy_username, self._settings.proxy_password
        if user is None:
            return {}
        return {"Proxy-Authorization": basic(user, password.reveal() if password else "")}

    def _timeout(self, seconds: float, silence: float) -> aiohttp.ClientTimeout:
        connect = min(self._settings.connect_timeout, seconds)
        return aiohttp.ClientTimeout(total=seconds, sock_connect=connect, sock_read=silence)


def _sendable(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return ``headers``, unless a secret in them has a line end or another control character."""
    for name, value in headers.items():
        if not value.isprintable():
            raise NeedsOperatorError(
                f"the value of {name} cannot be sent in a header",
                hint="the secret holds a line end or another control character",
            )
    return headers


def _payload(body: bytes | AsyncIterable[bytes] | None) -> Any:
    # aiohttp sends a file in parts; bytes would block one turn of the loop with all of them.
    return io.BytesIO(body) if isinstance(body, bytes) and len(body) > _AT_ONCE else body


def basic(user: str, password: str) -> str:
    """Return the value of an ``Authorization`` header for a user and a password."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


async def _read(response: aiohttp.ClientResponse, largest: int) -> bytes:
    """Read the body to its end, and no more than ``largest`` bytes of it."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > largest:
            where = origin(str(response.url))
            raise AnswerTooLargeError(f"{where} sent an answer of more than {largest} bytes")
        parts.append(part)
    return b"".join(parts)


def parse_retry_after(value: str | None, now_us: int) -> float | None:
    """Return the seconds to wait, from 0 to an hour, or None if ``value`` is not understood.

    ``value`` is a number of seconds or an HTTP date; ``now_us`` is the wall clock in microseconds.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), _LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
        wait = moment.timestamp() - now_us / 1_000_000
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    # At most an hour: a wrong clock on the other side must not stop delivery for years.
    return min(max(wait, 0.0), _LONGEST_WAIT)


def connection_error(
    error: Exception, where: str, seconds: float, proxy: str = ""
) -> TransientError:
    """Return our error for an exception of aiohttp during a request to ``where``.

    ``seconds`` is the time limit of the request, ``proxy`` the proxy on the way or empty. The text
    of the exception is left out: it could hold a header.
    """
    tls = _tls_error(error)
    if tls is not None:
        return explain_tls(tls, where)
    near = f"the proxy {proxy} (on the way to {where})" if proxy else where
    through = f"{where} (through the proxy {proxy})" if proxy else where
    match error:
        case TimeoutError():
            said = f"{through} did not answer within {seconds:g} s"
            hint = "check the host, port and firewall; a hanging proxy looks like this too"
        case aiohttp.ClientHttpProxyError():
            return _proxy_error(error, near)
        case aiohttp.ClientConnectorDNSError() | UnicodeError():
            said, hint = f"the name of {near} cannot be resolved", "check the host name"
        case aiohttp.ClientConnectorError():
            said = f"no connection to {near}: {system_reason(error.os_error)}"
            hint = "check that it runs and that host and port are right"
        case _FloodError():
            said, hint = f"{through} sends {error}", ""
        case _:
            said, hint = f"the connection to {through} broke: {system_reason(error)}", ""
    if proxy:
        hint = f"{hint}; {_PROXY_SETTINGS}" if hint else _PROXY_SETTINGS
    return TransientError(said, hint=hint)


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return the TLS error inside ``error``, or None."""
    # aiohttp's own certificate error is an ssl.SSLError too, but the reason is in the one inside.
    while error is not None:
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        if isinstance(error, ssl.SSLError) and not isinstance(inner, BaseException):
            return error
        error = inner if isinstance(inner, BaseException) else error.__cause__
    return None


def _proxy_error(error: aiohttp.ClientHttpProxyError, near: str) -> TransientError:
    """Return our error for a proxy that does not open a tunnel."""
    said = f"{near} answered {error.status}"
    if error.status == 407:  # noqa: PLR2004 - proxy authentication required
        return NeedsOperatorError(said, hint="set proxy_username and proxy_password")
    if 400 <= error.status < 500 and error.status not in (408, 429):  # noqa: PLR2004
        hint = f"let the proxy connect to this host and port; {_PROXY_SETTINGS}"
        return NeedsOperatorError(said, hint=hint)
    return TransientError(said, hint=_PROXY_SETTINGS)


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the URL of the environment's proxy for a request to ``url``, or None for none.

    Raises ``NeedsOperatorError`` for a proxy that is not reached by http or https.
    """
    parts = urlsplit(url)
    chosen = _variable(f"{parts.scheme}_proxy", environ) or _variable("all_proxy", environ)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not chosen or _bypassed(parts.hostname or "", port, _variable("no_proxy", environ)):
        return None
    proxy = chosen if "://" in chosen else f"http://{chosen}"
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise NeedsOperatorError(
            f"the proxy {origin(proxy)} of the environment is not an http or https proxy",
            hint=f"name an http proxy, or add the host to no_proxy; {_PROXY_SETTINGS}",
        )
    return proxy


def _variable(name: str, environ: Mapping[str, str]) -> str:
    """Return a variable, the lower-case spelling before the upper-case one, as curl does."""
    return (environ.get(name) or environ.get(name.upper()) or "").strip()


def _bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Return True if an entry of ``no_proxy`` covers the host and port of a request."""
    host = host.lower().rstrip(".")
    # Commas by curl, blanks by older tools; people write both.
    return any(_covers(entry.lower(), host, port) for entry in re.split(r"[,\s]+", no_proxy))


def _covers(entry: str, host: str, port: int) -> bool:
    """Return True if one entry is ``*``, the host, a domain, an address or a network it is in.

    The entry may end in a port: ``host:8088``, ``[::1]:8088``.
    """
    found = _WITH_PORT.fullmatch(entry)
    if found is not None:
        entry = found["six"] or found["name"]
        if int(found["port"]) != port:
            return False
    entry = entry.strip("[]").rstrip(".")
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except (ValueError, TypeError):  # one of them is a name
        name = entry.removeprefix("*").lstrip(".")
        if "*" in name:
            return fnmatchcase(host, name)
        return entry == "*" or (bool(name) and (host == name or host.endswith(f".{name}")))
