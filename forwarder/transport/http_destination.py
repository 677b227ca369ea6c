"""An HTTP destination as a sink sees it: addresses, log-in, compression, statuses as errors.

class MySink:
    def __init__(self, config: HttpAuth, context: SinkContext) -> None:
        self._http = HttpDestination(config, context)

    async def write(self, batch: Batch) -> WriteResult:
        body = await self._http.packed(encode(batch.events))
        with self._http.attempt() as url:
            answer = await self._http.send("POST", f"{url}/ingest", body)
            self._http.check(answer)
        return ACCEPTED
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from forwarder.core.contracts import Finding, SinkContext
from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ForwarderError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.transport.http import LARGEST_ANSWER, Answer, HttpClient, HttpSettings, basic
from forwarder.transport.oauth import OAuthSettings, TokenSource
from forwarder.transport.settings import Secret, origin

# ISA-L takes a tenth of zlib's time for about a sixth more bytes. From how many bytes on a thread
# compresses: below it takes about a millisecond, and a thread costs more.
if find_spec("isal"):
    from isal import igzip

    _gzip: Callable[..., bytes] = igzip.compress
    _IN_THREAD = 4 * 2**20
else:
    _gzip = gzip.compress
    _IN_THREAD = 65_536

# Seconds for which a failed address is skipped while another one works.
REST = 30.0
_UNAUTHORISED = 401

_SET_BY_US = frozenset(
    {"content-length", "transfer-encoding", "content-encoding", "host", "connection"}
)


class HttpAuth(HttpSettings):
    """Settings of a destination with a log-in: a token, a user and password, or headers."""

    LOGINS: ClassVar[Sequence[str]] = ("bearer_token", "username", "oauth2")
    """The keys of which at most one may be given."""

    bearer_token: Secret | None = Field(None, description="token for bearer authentication")
    username: str | None = Field(None, description="user for basic authentication")
    password: Secret | None = Field(None, description="password for basic authentication")
    oauth2: OAuthSettings | None = Field(
        None, description="bearer tokens of a token server, by client credentials"
    )
    headers: dict[str, Secret] = Field(
        {}, description="more headers, each NAME: VALUE or NAME_file: PATH; shown nowhere"
    )

    @field_validator("headers")
    @classmethod
    def _only_headers_that_are_free(cls, value: dict[str, Secret]) -> dict[str, Secret]:
        for name in value:
            if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"{name!r} is not a valid header name")
            if name.lower() in _SET_BY_US:
                raise ValueError(f"{name} is set by the program itself")
        return value

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> HttpAuth:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        given = [name for name in self.LOGINS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give only one of {' and '.join(given)}")
        return self

    def authorization(self) -> dict[str, str]:
        """Return the headers that hold secrets; a secret file is re-read when it changed."""
        headers = {name: secret.reveal() for name, secret in self.headers.items()}
        if self.bearer_token is not None:
            headers["Authorization"] = f"Bearer {self.bearer_token.reveal()}"
        if self.username is not None and self.password is not None:
            headers["Authorization"] = basic(self.username, self.password.reveal())
        return headers


class HttpDestination:
    """The addresses of one sink. Each call is one request: nothing here retries."""

    def __init__(
        self,
        settings: HttpSettings,
        context: SinkContext,
        *,
        connections: int = 8,
        oauth: OAuthSettings | None = None,
    ) -> None:
        """Open nothing yet; ``connections`` bounds how many requests run at once.

        ``oauth`` is where bearer tokens come from, unless ``settings`` say so.
        """
        self._settings = settings
        self._clock = context.clock
        self._client = HttpClient(
            settings,
            context.user_agent,
            connections=connections,
            where=f"sink {context.name}",
            emit=context.emit,
        )
        if isinstance(settings, HttpAuth):
            oauth = settings.oauth2
        self._tokens = TokenSource(oauth, context.clock, via=settings) if oauth else None
        self._spread = settings.balance == "round_robin"
        self._turn = 0
        self._rests_until: dict[str, float] = {}

    @property
    def urls(self) -> Sequence[str]:
        """Return the addresses in order of preference; a changed ``url_file`` is re-read."""
        return self._settings.addresses

    @contextlib.contextmanager
    def attempt(self) -> Iterator[str]:
        """Yield the address for the next request; it rests if the block has a TransientError.

        Everything that can tell that this address is bad belongs into the block, above all the
        interpretation of the answer.
        """
        url = self._next()
        try:
            yield url
        except TransientError:
            self._rests_until[url] = self._clock.monotonic() + REST
            raise
        self._rests_until[url] = 0.0

    def _next(self) -> str:
        urls = self.urls
        rests_until = [self._rests_until.get(url, 0.0) for url in urls]
        index = choose(rests_until, self._clock.monotonic(), self._turn)
        if self._spread:
            self._turn = (index + 1) % len(urls)
        return urls[index]

    async def packed(self, body: bytes) -> bytes:
        """Return ``body`` as ``send`` takes it: compressed unless the settings say otherwise."""
        if not self._settings.gzip:
            return body
        return compress(body) if len(body) < _IN_THREAD else await asyncio.to_thread(compress, body)

    async def send(
        self,
        method: str,
        url: str,
        packed: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        largest: int = LARGEST_ANSWER,
    ) -> Answer:
        """Send a body that ``packed`` returned, with the log-in; return the answer as it is.

        ``largest`` bounds the bytes of the answer. Raises what ``HttpClient.request`` raises.
        """
        encoding = {"Content-Encoding": "gzip"} if self._settings.gzip else {}
        return await self.ask(method, url, {**(headers or {}), **encoding}, packed, largest=largest)

    async def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        largest: int = LARGEST_ANSWER,
    ) -> Answer:
        """Send a small request that carries no events, such as a probe; never compressed.

        With ``oauth2`` a token that is refused is renewed once.
        """
        sent = {**(headers or {}), **self._settings.authorization()}
        request = partial(self._client.request, method, url, body=body, largest=largest)
        if self._tokens is None:
            return await request(headers=sent)
        token = await self._tokens.token()
        answer = await request(headers=sent | {"Authorization": f"Bearer {token}"})
        if answer.status != _UNAUTHORISED:
            return answer
        # A token may be revoked before its time. A request that got a 401 has stored nothing.
        token = await self._tokens.token(refused=token)
        return await request(headers=sent | {"Authorization": f"Bearer {token}"})

    def retry_after(self, answer: Answer) -> float | None:
        """Return the seconds that ``Retry-After`` asks for, or None."""
        return answer.retry_after(self._clock.now_us())

    def check(self, answer: Answer, detail: str = "") -> None:
        """Raise the error that the status of ``answer`` stands for, if it is not a success.

        ``detail`` goes into the message; it must hold no value of an event.
        """
        wait = self.retry_after(answer)
        error = status_error(answer.status, answer.where, retry_after=wait, detail=detail)
        if error is not None:
            raise error

    async def probe(self, check: Callable[[str], Awaitable[None]]) -> None:
        """Check all addresses at once; one that works is enough.

        Raises what the first address in order of preference raised when none works; a refusal
        counts as an outage, since there is no batch to refuse.
        """
        urls = self.urls
        results = await asyncio.gather(
            *(self._probed(url, check) for url in urls), return_exceptions=True
        )
        faults = [result for result in results if result is not None]
        bugs = [fault for fault in faults if not isinstance(fault, TransientError)]
        if bugs or len(faults) == len(urls):
            raise (bugs or faults)[0]

    async def _probed(self, url: str, check: Callable[[str], Awaitable[None]]) -> None:
        try:
            with no_batch():
                await check(url)
        except TransientError:
            self._rests_until[url] = self._clock.monotonic() + REST
            raise
        self._rests_until[url] = 0.0

    async def diagnosis(
        self, check: Callable[[str], Awaitable[None]], healthy: str
    ) -> list[Finding]:
        """Return a finding for each address: ``healthy``, or what ``check`` raised."""
        return [await self._finding(url, check, healthy) for url in self.urls]

    async def _finding(
        self, url: str, check: Callable[[str], Awaitable[None]], healthy: str
    ) -> Finding:
        found = await finding(origin(url), check(url), healthy)
        if found.level == "ok" and (proxy := self._client.proxy(url)):
            return replace(found, text=f"{healthy}, through the proxy {origin(proxy)}")
        return found

    async def aclose(self) -> None:
        """Close the connections; idempotent."""
        await self._client.aclose()


def compress(data: bytes) -> bytes:
    """Return ``data`` as one gzip member; always the same bytes for the same input."""
    return _gzip(data, 1, mtime=0)


async def finding(subject: str, check: Awaitable[None], healthy: str) -> Finding:
    """Return what ``check --live`` shows after ``check`` returned or raised one of our errors."""
    try:
        await check
    except ForwarderError as error:
        # Most errors name the address, which is the subject already.
        named = re.escape(subject)
        text = re.sub(rf"^{named}:? |( to| with| of) {named}(?=[: ])", "", str(error), count=1)
        return Finding("fault", subject, text, getattr(error, "hint", ""))
    return Finding("ok", subject, healthy)


@contextlib.contextmanager
def no_batch() -> Iterator[None]:
    """Turn a refusal inside the block into an outage: no batch was sent that could be refused."""
    try:
        yield
    except (BatchRefusedError, BatchTooLargeError) as error:
        raise TransientError(str(error)) from error


def choose(rests_until: Sequence[float], now: float, start: int = 0) -> int:
    """Return the index of the address to use at ``now`` (monotonic seconds).

    The first address from ``start`` on, going round, that does not rest; if all rest, the one
    whose rest ends first. ``rests_until`` has one time an address and at least one address.
    """
    count = len(rests_until)
    order = [(start + step) % count for step in range(count)]
    return min(order, key=lambda index: max(rests_until[index], now))


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
    status: int, where: str, *, retry_after: float | None = None, detail: str = ""
) -> ForwarderError | None:
    """Return the error that ``status`` stands for, or None for a success (2xx).

    ``where`` names the destination for messages, without path and secrets. An unknown status is
    judged by its class: 5xx may pass, any other 4xx refuses just this request.
    """
    said = f"{where} answered {status}"
    more = f": {detail}" if detail else ""
    if 200 <= status < 300:  # noqa: PLR2004 - the success class
        return None
    if status in _OPERATOR:
        what, hint = _OPERATOR[status]
        return NeedsOperatorError(f"{said} ({what}){more}", retry_after=retry_after, hint=hint)
    if status == _TOO_LARGE:
        return BatchTooLargeError(said + more)
    if 300 <= status < 400:  # noqa: PLR2004 - redirects, which would carry the token to another host
        return NeedsOperatorError(
            f"{said}: a redirect, which is never followed",
            retry_after=retry_after,
            hint="give the final URL; a log-in page or a change from http to https redirects too",
        )
    if status >= 500 or status in _TRANSIENT:  # noqa: PLR2004 - the server's own faults
        return TransientError(said + more, retry_after=retry_after)
    return BatchRefusedError(said + more)
