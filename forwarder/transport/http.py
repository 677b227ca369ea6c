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
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDictProxy

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.transport.settings import HttpSettings, origin
from forwarder.transport.tls import Tls

# Bytes of an answer, unless a request says otherwise.
LARGEST_ANSWER = 4 * 2**20
_AT_ONCE = 2**20
# With less, aiohttp stops and resumes reading at every turn of the loop.
_READ_AHEAD = 2**20
# Seconds. Balancers drop idle connections after 30 or more; the next request would break.
_IDLE = 25.0
# Parts of OpenSSL's reasons that waiting does not fix.
_CERTIFICATE_FAULTS = (
    "CERTIFICATE",
    "WRONG_VERSION",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
    "HTTP_REQUEST",
)
_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?")
_LONGEST_WAIT = 3600.0


class AnswerTooLargeError(TransientError):
    """The answer has more bytes than the caller takes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read to its end. ``where`` names the server for messages: scheme, host, port."""

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
    ) -> None:
        """Open nothing yet; ``connections`` bounds how many requests run at once."""
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
        largest: int = LARGEST_ANSWER,
    ) -> Answer:
        """Send one request and return its answer, read to the end.

        ``seconds`` bounds the whole request (``response_timeout`` unless given), ``silence`` the
        seconds without a byte of the answer. Raises ``TransientError`` for a failure on the way,
        ``AnswerTooLargeError`` for an answer of more than ``largest`` bytes and
        ``NeedsOperatorError`` for a certificate or proxy that only a person can fix.
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
                return Answer(response.status, response.headers, text, origin(url))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # A ClientResponseError holds the request with its secrets, so it is no cause to show.
            cause = None if isinstance(error, aiohttp.ClientResponseError) else error
            raise connection_error(error, origin(url), limit) from cause

    async def aclose(self) -> None:
        """Close all connections; idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # trust_env stays off: aiohttp would also take passwords out of ~/.netrc and put them in
            # place of the authorisation that the settings gave. Proxies are read by proxy_for.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections, keepalive_timeout=_IDLE, ttl_dns_cache=30
                ),
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


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    # aiohttp sends a file in parts; bytes would block one turn of the loop with all of them.
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


def connection_error(error: Exception, where: str, seconds: float) -> TransientError:
    """Return our error for an exception of aiohttp during a request to ``where``.

    ``seconds`` is the time limit of the request. The text of the exception is left out: it could
    hold a header.
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
    """Return the system's text for ``error``; asyncio's text would repeat the address."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else type(error).__name__


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return the TLS error inside ``error``, or None."""
    # aiohttp's own certificate error is an ssl.SSLError too, but the reason is in the one inside.
    while error is not None:
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        if isinstance(error, ssl.SSLError) and not isinstance(inner, BaseException):
            return error
        error = inner if isinstance(inner, BaseException) else error.__cause__
    return None


def _handshake_error(error: ssl.SSLError, where: str) -> TransientError:
    reason = getattr(error, "verify_message", "") or error.reason or "handshake failed"
    said = f"TLS with {where} failed: {reason}"
    if any(fault in (error.reason or "") for fault in _CERTIFICATE_FAULTS):
        return NeedsOperatorError(
            said, hint="check https or http, the host name, tls.ca_file and tls.cert_file"
        )
    return TransientError(said)


def _proxy_error(error: aiohttp.ClientHttpProxyError, where: str) -> TransientError:
    said = f"the proxy to {where} answered {error.status}"
    if error.status == 407:  # noqa: PLR2004 - proxy authentication required
        return NeedsOperatorError(said, hint="set proxy_username and proxy_password")
    if 400 <= error.status < 500 and error.status not in (408, 429):  # noqa: PLR2004
        return NeedsOperatorError(said, hint="let the proxy connect to this host and port")
    return TransientError(said)


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy's URL for a request to ``url``, or None to connect directly."""
    parts = urlsplit(url)
    chosen = _named(f"{parts.scheme}_proxy", environ) or _named("all_proxy", environ)
    if not chosen or _bypassed(parts.hostname or "", parts.port, _named("no_proxy", environ)):
        return None
    return chosen if "://" in chosen else f"http://{chosen}"


def _named(name: str, environ: Mapping[str, str]) -> str:
    """Return a variable, the lower-case spelling before the upper-case one, as curl does."""
    return environ.get(name) or environ.get(name.upper()) or ""


def _bypassed(host: str, port: int | None, no_proxy: str) -> bool:
    """Return True if ``no_proxy`` names the host, its domain, host:port or everything."""
    for entry in no_proxy.split(","):
        name = entry.strip().lower().removeprefix("*.").lstrip(".")
        if entry.strip() == "*" or (port and name == f"{host}:{port}"):
            return True
        if name and (host == name or host.endswith(f".{name}")):
            return True
    return False
