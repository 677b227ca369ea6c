"""Cloudflare's API for one account: one request in its turn, rows back.

Never retries, and waits only for the rate limiter; the caller decides by the exception's kind.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

import orjson

from forwarder.core.errors import ConfigError, NeedsOperatorError
from forwarder.core.source_contract import Purpose
from forwarder.core.telemetry import Emit, ignore
from forwarder.core.timing import Clock, ServerClock
from forwarder.sources.cloudflare_access.account import AccountConfig
from forwarder.sources.cloudflare_access.answers import (
    VERIFY_ACCOUNT_TOKEN,
    VERIFY_USER_TOKEN,
    Answer,
    Endpoint,
    RequestRefusedError,
    Response,
    ThrottledError,
    read_object,
    read_rows,
    read_time_us,
    server_time_us,
)
from forwarder.sources.cloudflare_access.events import (
    BodyRepaired,
    BudgetExhausted,
    RequestMade,
    TokenBlocked,
)
from forwarder.sources.cloudflare_access.rate_limit import RateLimiter
from forwarder.transport.http import HttpClient, HttpSettings
from forwarder.transport.settings import Secret, origin

# As RFC 6750 defines a bearer token; above all without a line break, which ends a header.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_CONNECT_SECONDS, _SILENCE_SECONDS, _ANSWER_SECONDS = 10.0, 30.0, 60.0
_LARGEST_BODY, _LARGEST_ROW = 8 * 2**20, 64 * 2**20
"""Bytes of an answer; while it is read, several copies of it are in memory."""
_AT_ONCE = 768 * 2**10

_JSON = {"Content-Type": "application/json"}

Params: TypeAlias = Sequence[tuple[str, str]]
T = TypeVar("T")


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """Return ``work()``, done in a thread if it is about so many bytes that others would wait."""
    return await asyncio.to_thread(work) if size > _AT_ONCE else work()


@dataclass(frozen=True, slots=True)
class TokenStatus:
    """What Cloudflare says about a token: whose it is and whether it is in force."""

    owner: Literal["account", "user"]
    status: str
    expires_on: str = ""


class Api:
    """The API as one account sees it. Connects at the first request, in the running loop."""

    def __init__(
        self,
        config: AccountConfig,
        limiter: RateLimiter,
        clock: Clock,
        *,
        user_agent: str = "forwarder",
        emit: Emit = ignore,
        answer_seconds: float = _ANSWER_SECONDS,
        environ: Mapping[str, str] = os.environ,
        queries: RateLimiter | None = None,
    ) -> None:
        """Take the account's settings and the limiter of its token.

        ``answer_seconds`` bounds one request as a whole; ``environ`` may name a proxy. ``queries``
        limits the queries of ``query``, which Cloudflare counts apart.
        """
        self._config = config
        self._account = config.label
        self._limiter = limiter
        self._queries = queries or limiter
        self._clock = clock
        self._server_clock = ServerClock()
        self._emit = emit
        self._client = HttpClient(
            HttpSettings(
                url=config.api_url,
                tls=config.tls,
                proxy=config.proxy,
                proxy_username=config.proxy_username,
                proxy_password=config.proxy_password,
                connect_timeout=_CONNECT_SECONDS,
                response_timeout=answer_seconds,
            ),
            user_agent,
            environ=environ,
        )

    async def get(
        self,
        endpoint: Endpoint,
        params: Params = (),
        *,
        purpose: Purpose = Purpose.LIVE,
        urgency: float = 0.0,
        smallest: bool = False,
    ) -> Answer:
        """Request rows; a parameter with several values is given several times.

        Waits for its turn (see ``RateLimiter.turn``). Raises ``RequestRefusedError`` and other
        ``NeedsOperatorError`` for what a person must fix, ``ThrottledError`` after a 429 (the
        limiter holds everything back by then), ``AnswerTooLargeError`` when fewer rows should be
        requested, ``TransientError`` for the rest. ``smallest``: fewer cannot be requested, so
        that a larger answer is taken.
        """
        read = partial(read_rows, smallest=smallest)
        largest = _LARGEST_ROW if smallest else _LARGEST_BODY
        answer = await self._ask(endpoint, read, params, purpose, urgency, largest)
        if answer.repaired:
            rows, malformed = len(answer.rows), answer.malformed
            self._emit(BodyRepaired(self._account, endpoint.name, rows, malformed, answer.ray))
        return answer

    async def get_one(
        self,
        endpoint: Endpoint,
        name: str,
        read: Callable[[Response, Endpoint, int], T],
        *,
        purpose: Purpose,
        urgency: float,
    ) -> T:
        """Request one object below a list's endpoint, by its id; else as ``query``."""
        # The path is formatted later, so that a brace in an id would be taken for a field.
        path = f"{endpoint.path}/{quote(name, safe='')}"
        one = replace(endpoint, path=path)
        return await self._ask(one, read, (), purpose, urgency)

    async def query(
        self,
        endpoint: Endpoint,
        text: str,
        read: Callable[[Response, Endpoint, int], T],
        *,
        purpose: Purpose = Purpose.LIVE,
        urgency: float = 0.0,
    ) -> T:
        """Send a query of GraphQL and return what ``read`` makes of the answer; raises as ``get``.

        ``read`` takes the answer, the endpoint and the local time, as ``answers.read_rows`` does.
        """
        body = orjson.dumps({"query": text})
        return await self._ask(endpoint, read, (), purpose, urgency, body=body)

    async def server_time_us(self) -> int:
        """Return Cloudflare's clock in microseconds since 1970.

        Any answer of the API has it, also one that refuses the token: the endpoint that is read
        next reports that better. Raises ``TransientError`` when there is no such answer.
        """
        return await self._ask(VERIFY_ACCOUNT_TOKEN, read_time_us)

    def believed_time_us(self) -> int | None:
        """Return the time by what all answers together said, None before the first; no I/O.

        A single answer with a wrong clock changes nothing.
        """
        clock = self._server_clock
        return clock.now_us(self._clock.monotonic()) if clock.known else None

    async def verify_token(self) -> TokenStatus | None:
        """Return the state of the token; None for an API key, which cannot be verified.

        Says nothing about permissions. Raises as ``get`` does.
        """
        if self._config.api_token is None:
            return None
        # The account knows only its own tokens, a user only theirs: the first may refuse either.
        try:
            return _status("account", await self._ask(VERIFY_ACCOUNT_TOKEN, read_object))
        except RequestRefusedError:
            return _status("user", await self._ask(VERIFY_USER_TOKEN, read_object))

    async def aclose(self) -> None:
        """Close all connections; idempotent."""
        await self._client.aclose()

    async def _ask(
        self,
        endpoint: Endpoint,
        read: Callable[[Response, Endpoint, int], T],
        params: Params = (),
        purpose: Purpose = Purpose.LIVE,
        urgency: float = 0.0,
        largest: int = _LARGEST_BODY,
        body: bytes | None = None,
    ) -> T:
        """Send one request in its turn and read its answer; a 429 blocks the token.

        With a ``body`` it is a query, which has a budget of its own.
        """
        limiter = self._limiter if body is None else self._queries
        path = endpoint.path.format(account_id=self._config.account_id)
        url = f"{self._config.api_url}{path}" + (f"?{urlencode(params)}" if params else "")
        async with limiter.turn(purpose, urgency, self._tell_wait) as waited:
            # The answer is read within the turn: the limiter must know of a 429 before the next
            # request goes.
            response = await self._send(url, endpoint, waited, largest, body)
            limiter.heed(response.headers)
            now_us = self._clock.now_us()
            try:
                found = await off_loop(len(response.body), lambda: read(response, endpoint, now_us))
            except ThrottledError as error:
                seconds = limiter.block(error.retry_after)
                self._emit(TokenBlocked(self._account, endpoint.name, seconds))
                raise ThrottledError(str(error), retry_after=seconds, hint=error.hint) from error
            self._server_clock.tell(server_time_us(response), self._clock.monotonic())
            return found

    def _tell_wait(self, seconds: float) -> None:
        self._emit(BudgetExhausted(self._config.label, seconds))

    async def _send(
        self, url: str, endpoint: Endpoint, waited: float, largest: int, body: bytes | None
    ) -> Response:
        headers = _headers(self._config)
        started, outcome = self._clock.monotonic(), "none"
        try:
            answer = await self._client.request(
                "GET" if body is None else "POST",
                url,
                headers=headers if body is None else headers | _JSON,
                body=body,
                # A proxy that hangs in the middle of a body keeps the connection open for ever.
                silence=_SILENCE_SECONDS,
                largest=largest,
            )
            outcome = f"{answer.status // 100}xx"
        finally:
            seconds = self._clock.monotonic() - started
            # The metric is the budget of requests: that of queries would jump in and out of it.
            left = self._limiter.left if body is None else None
            self._emit(RequestMade(self._account, endpoint.name, outcome, seconds, waited, left))
        received = {name.lower(): value for name, value in answer.headers.items()}
        proxy = self._client.proxy(url)
        return Response(answer.status, received, answer.body, origin(proxy) if proxy else "")


def _headers(config: AccountConfig) -> dict[str, str]:
    """Return the credentials as headers; a secret file that changed is read again."""
    accept = {"Accept": "application/json", "Accept-Encoding": "gzip"}
    if config.api_token is not None:
        token = _checked(config.api_token, "api_token")
        return {**accept, "Authorization": f"Bearer {token}"}
    if config.api_key is None or config.email is None:
        raise ConfigError("api_token is missing (or email and api_key)")
    return {
        **accept,
        "X-Auth-Email": config.email,
        "X-Auth-Key": _checked(config.api_key, "api_key"),
    }


def _checked(secret: Secret, name: str) -> str:
    """Return a secret that can stand in a header."""
    text = secret.reveal()
    if not _TOKEN.fullmatch(text):
        raise NeedsOperatorError(
            f"{name} holds characters that none of Cloudflare's has",
            hint="it is one word: no quotes, no `Bearer` before it, no line break",
        )
    return text


def _status(owner: Literal["account", "user"], found: Mapping[str, Any]) -> TokenStatus:
    status, expires_on = found.get("status"), found.get("expires_on")
    return TokenStatus(
        owner,
        status if isinstance(status, str) else "unknown",
        expires_on if isinstance(expires_on, str) else "",
    )
