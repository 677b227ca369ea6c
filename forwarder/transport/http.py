"""The one HTTP client: TLS, proxy, time-outs, gzip, and statuses as our errors.

The ``Retry-After`` header in both its forms.

What an HTTP status means for whoever sent the request: one table, our errors.

What went wrong below HTTP, in our words: names, connections, certificates, proxies, time.

Which proxy the environment asks for: ``http(s)_proxy``, ``all_proxy``, ``no_proxy``.

The HTTP client's own reading of the environment also takes passwords from ``~/.netrc`` and puts
them in place of the authorisation that the settings gave; so it is not used.

One HTTP client for plugins: no retries, no redirects, every wait bounded, no secret in an error.

    client = HttpClient(settings, user_agent="forwarder/1.0")
    answer = await client.request("POST", url, headers={...}, body=body)

Every answer is returned, whatever its status; what became of the request is for the caller to say,
with ``forwarder.transport.http_status`` where the status alone tells it.
"""

from __future__ import annotations

import io
import os
import re
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDictProxy

from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ForwarderError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.transport.settings import HttpSettings, origin
from forwarder.transport.tls import Tls

_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?")
_LONGEST = 3600.0


def parse_retry_after(value: str | None, now_us: int) -> float | None:
    """Return how many seconds to wait, between 0 and an hour, or None for what says nothing.

    ``value`` is a number of seconds or an HTTP date; ``now_us`` is the wall clock in microseconds.
    An hour at most: a clock gone wrong on the other side must not silence us for years.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), _LONGEST)
    try:
        moment = parsedate_to_datetime(text)
        wait = moment.timestamp() - now_us / 1_000_000
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return min(max(wait, 0.0), _LONGEST)


_OPERATOR = {
    401: ("unauthorised", "check the token, user and password; a changed secret file is re-read"),
    402: ("payment required", "check the subscription of the account there"),
    403: ("forbidden", "check that this token or user may write there"),
    404: ("not found", "check the path of the URL"),
    405: ("method not allowed", "check the path of the URL"),
    406: ("not acceptable", "check the URL and the format"),
    407: ("proxy authentication required", "set proxy_username and proxy_password"),
    410: ("gone", "check the URL"),
    411: ("length required", "a proxy on the way removes the length of requests"),
    415: ("unsupported media type", "set gzip: false, or check the content type"),
    421: ("misdirected request", "check the host name and tls.server_name"),
    426: ("upgrade required", "use https"),
    431: ("header fields too large", "check the headers in the settings"),
    495: ("certificate refused", "check tls.cert_file"),
    496: ("certificate required", "set tls.cert_file and tls.key_file"),
    511: ("network authentication required", "a gateway on the way asks for a log-in"),
}
_TRANSIENT = frozenset({408, 409, 423, 425, 429, 499})
_TOO_LARGE = 413


def status_error(
    status: int, where: str, *, retry_after: float | None = None
) -> ForwarderError | None:
    """Return the error that ``status`` stands for, or None for a success (2xx).

    ``where`` names the destination for people, without path and secrets. What is unknown is taken
    by its class: 5xx may pass, another 4xx is a refusal of just this request.
    """
    said = f"{where} answered {status}"
    if 200 <= status < 300:  # noqa: PLR2004 - the success class
        return None
    if status in _OPERATOR:
        what, hint = _OPERATOR[status]
        return NeedsOperatorError(f"{said} ({what})", retry_after=retry_after, hint=hint)
    if status == _TOO_LARGE:
        return BatchTooLargeError(said)
    if 300 <= status < 400:  # noqa: PLR2004 - redirects, which would carry the token to another host
        return NeedsOperatorError(
            f"{said}: a redirect, which is never followed",
            retry_after=retry_after,
            hint="give the final URL; a log-in page or a change from http to https redirects too",
        )
    if status >= 500 or status in _TRANSIENT:  # noqa: PLR2004 - the server's own faults
        return TransientError(said, retry_after=retry_after)
    return BatchRefusedError(said)


_MISTAKES = ("CERTIFICATE", "WRONG_VERSION", "UNKNOWN_CA", "ACCESS_DENIED", "HTTP_REQUEST")
"""Parts of OpenSSL's reasons that waiting does not mend."""


def connection_error(error: Exception, where: str, seconds: float) -> TransientError:
    """Return our error for what the HTTP client raised while talking to ``where``.

    ``seconds`` is the time that the request was given. The client's own words are left out where
    they could hold a header.
    """
    if isinstance(error, TimeoutError):
        return TransientError(
            f"{where} did not answer within {seconds:g} s",
            hint="check the host, port and firewall; a hanging proxy looks like this too",
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _proxy_error(error, where)
    tls = _tls_error(error)
    if tls is not None:
        return _handshake_error(tls, where)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return TransientError(f"the name of {where} cannot be resolved", hint="check the host name")
    if isinstance(error, aiohttp.ClientConnectorError):
        return TransientError(
            f"no connection to {where}: {_reason(error.os_error)}",
            hint="check that it runs and that host and port are right",
        )
    return TransientError(f"the connection to {where} broke: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Return the system's word for ``error``; asyncio's own names the address once more."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else type(error).__name__


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return the TLS error inside ``error``, wherever the client put it.

    The client's own certificate error calls itself a TLS error too, but has no reason in it.
    """
    while error is not None:
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        if isinstance(error, ssl.SSLError) and not isinstance(inner, BaseException):
            return error
        error = inner if isinstance(inner, BaseException) else error.__cause__
    return None


def _handshake_error(error: ssl.SSLError, where: str) -> TransientError:
    reason = getattr(error, "verify_message", "") or error.reason or "handshake failed"
    said = f"TLS with {where} failed: {reason}"
    if any(mistake in (error.reason or "") for mistake in _MISTAKES):
        return NeedsOperatorError(
            said, hint="check https or http, the host name, tls.ca_file and tls.cert_file"
        )
    return TransientError(said)


def _proxy_error(error: aiohttp.ClientHttpProxyError, where: str) -> TransientError:
    found = status_error(error.status, f"the proxy to {where}")
    if isinstance(found, TransientError):
        return found
    return TransientError(f"the proxy to {where} answered {error.status}")


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy's URL for a request to ``url``, or None to connect directly."""
    parts = urlsplit(url)
    chosen = _named(f"{parts.scheme}_proxy", environ) or _named("all_proxy", environ)
    if not chosen or _bypassed(parts.hostname or "", parts.port, _named("no_proxy", environ)):
        return None
    return chosen if "://" in chosen else f"http://{chosen}"


def _named(name: str, environ: Mapping[str, str]) -> str:
    """Return a variable that may be spelled small or in capitals; small goes first."""
    return environ.get(name) or environ.get(name.upper()) or ""


def _bypassed(host: str, port: int | None, no_proxy: str) -> bool:
    """Say whether ``no_proxy`` names the host, a domain it is in, host:port, or everything."""
    for entry in no_proxy.split(","):
        name = entry.strip().lower().removeprefix("*.").lstrip(".")
        if entry.strip() == "*" or (port and name == f"{host}:{port}"):
            return True
        if name and (host == name or host.endswith(f".{name}")):
            return True
    return False


_LARGEST_ANSWER = 4 * 2**20
_AT_ONCE = 2**20
_READ_AHEAD = 2**20
"""Bytes of an answer that may wait here: with less, one is stopped and resumed at every turn."""
_IDLE = 25.0
"""Seconds after which an idle connection is dropped, before balancers do so and break a request."""


class AnswerTooLargeError(TransientError):
    """The answer has more bytes than the caller takes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, the headers and the whole body."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes = field(repr=False)

    def retry_after(self, now_us: int) -> float | None:
        """Return the seconds that ``Retry-After`` asks for, or None."""
        return parse_retry_after(self.headers.get("Retry-After"), now_us)


class HttpClient:
    """Connections to one destination; makes them at the first request, in the running loop."""

    def __init__(
        self,
        settings: HttpSettings,
        user_agent: str,
        *,
        connections: int = 8,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Take how to get there; ``connections`` bounds how many requests run at once."""
        self._settings = settings
        self._user_agent = user_agent
        self._connections = connections
        self._environ = environ
        self._tls = Tls(settings.tls)
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        seconds: float | None = None,
        silence: float | None = None,
        largest: int = _LARGEST_ANSWER,
    ) -> Answer:
        """Send one request and return its answer, read to the end.

        ``seconds`` bounds the whole (``response_timeout`` unless given), ``silence`` the seconds
        without a byte of the answer. Raises ``TransientError`` for anything that broke on the way,
        ``AnswerTooLargeError`` for an answer of more than ``largest`` bytes and
        ``NeedsOperatorError`` for certificates and proxies that only a person can mend.
        """
        limit = self._settings.response_timeout if seconds is None else seconds
        https = url.startswith("https:")
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
                proxy=self._settings.proxy or proxy_for(url, self._environ),
                proxy_headers=proxy_headers if https else None,
                timeout=self._timeout(limit, silence or limit),
                read_bufsize=_READ_AHEAD,
            ) as response:
                text = await _read(response, largest)
                return Answer(response.status, response.headers, text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise connection_error(error, origin(url), limit) from _shareable(error)

    async def aclose(self) -> None:
        """Close all connections; idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections, keepalive_timeout=_IDLE, ttl_dns_cache=30
                ),
                cookie_jar=aiohttp.CookieJar(unsafe=True),
                headers={"User-Agent": self._user_agent},
                max_line_size=16_384,
                max_field_size=16_384,
            )
        return self._session

    def _proxy_headers(self) -> dict[str, str]:
        """Return what the proxy must see: beside a plain request, or alone when it tunnels."""
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


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """Let the client send a large body in parts, instead of all at one turn of the loop."""
    return io.BytesIO(body) if body and len(body) > _AT_ONCE else body


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


def _shareable(error: Exception) -> Exception | None:
    """Return ``error`` as a cause, unless it carries the request with its secrets."""
    return None if isinstance(error, aiohttp.ClientResponseError) else error
