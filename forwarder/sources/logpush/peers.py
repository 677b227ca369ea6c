"""The other replicas of a shared journal, one of which has the shard of an account.

A push that arrives elsewhere is passed on to that replica, and its answer is relayed. The body
streams through: it is never whole in this process, and nothing of it is stored here. There is one
hop: what was passed on is answered where it arrives. The answer of a replica says that it is one:
whatever else listens at an address that a replica once had stores nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from forwarder.core.errors import TransientError
from forwarder.sources.logpush.config import LogpushConfig
from forwarder.transport.http import HttpClient, HttpSettings
from forwarder.transport.settings import clean_url, origin

_HOP = "Forwarder-Passed-On"
_SENT = ("Content-Encoding", "Content-Length")
_CONNECTING = 3.0


class _Anywhere(HttpSettings):
    """Settings of a client whose addresses are known at each request only."""

    def _needs_url(self) -> bool:
        return False


class Peers:
    """Passes pushes on to other replicas."""

    def __init__(self, config: LogpushConfig, user_agent: str) -> None:
        """Connect to nobody yet."""
        self._header = config.header
        # The owner waits for room, reads and stores, each for at most ``limits.time``.
        self._seconds = 3 * config.limits.time
        self._client = HttpClient(
            _Anywhere(tls=config.peer.tls, connect_timeout=_CONNECTING),
            user_agent,
            connections=config.limits.connections,
            # Replicas reach each other directly, whatever proxy leads to the internet.
            environ={},
        )

    async def pass_on(
        self, request: web.Request, url: str, wanted: Callable[[], Awaitable[None]]
    ) -> web.Response:
        """Return the answer of the replica at ``url``; raises ``TransientError`` without one.

        The URL is what a database says, which may be anything.

        ``wanted`` is called when that replica has admitted the push and wants its body.
        """

        async def body() -> AsyncIterator[bytes]:
            await wanted()
            async for chunk in request.content.iter_any():
                yield chunk

        try:
            url = clean_url(url)
        except ValueError as error:
            raise TransientError(f"its address {error}") from error
        # aiohttp decodes headers with surrogateescape; the same way back gives the bytes sent.
        secret = request.headers[self._header].encode(errors="surrogateescape").decode()
        headers = {name: request.headers[name] for name in _SENT if name in request.headers}
        answer = await self._client.request(
            "POST",
            url,
            # Each push has a connection of its own: the other side closes idle ones at any moment.
            headers={
                **headers,
                self._header: secret,
                _HOP: "1",
                "Expect": "100-continue",
                "Connection": "close",
            },
            body=body(),
            seconds=self._seconds,
        )
        if _HOP not in answer.headers:
            raise TransientError(f"{origin(url)} is none: it answers {answer.status}, unmarked")
        later = answer.headers.get("Retry-After")
        kept = {} if later is None else {"Retry-After": later}
        return web.Response(status=answer.status, body=answer.body, headers=kept)

    async def aclose(self) -> None:
        """Close what is open; idempotent."""
        await self._client.aclose()


def was_passed_on(request: web.Request) -> bool:
    """Return True if a request comes from another replica, and must not be passed on again."""
    return _HOP in request.headers


def marks(request: web.Request) -> dict[str, str]:
    """Return the headers that tell another replica who answers it; none for anybody else."""
    return {_HOP: "1"} if was_passed_on(request) else {}
