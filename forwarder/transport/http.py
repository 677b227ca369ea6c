"""One HTTP client for plugins: no retries, no redirects, every wait bounded, no secret in an error.

    client = HttpClient(settings, user_agent="forwarder/1.0")
    answer = await client.request("POST", url, headers={...}, body=body)

Every answer is returned, whatever its status; what became of the request is for the caller to say,
with ``forwarder.transport.http_status`` where the status alone tells it.
"""

from __future__ import annotations

import io
import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
from multidict import CIMultiDictProxy

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.transport.http_faults import connection_error
from forwarder.transport.http_settings import HttpSettings, origin
from forwarder.transport.proxy import proxy_for
from forwarder.transport.retry_after import parse_retry_after
from forwarder.transport.tls import Tls

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
