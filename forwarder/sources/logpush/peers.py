"""The other replicas of a shared journal, one of which has the shard of an account.

A push that arrives elsewhere is passed on to that replica, and its answer is relayed. The body
streams through: it is never whole in this process, and nothing of it is stored here. There is one
hop: what was passed on is answered where it arrives.

The replica that passes on proves the push secret to the owner, and the answer proves it in turn:
whatever else listens at an address that a replica once had stores nothing. A request's proof holds
for one request to one address; only TLS protects the body, which is not known yet when it is made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from secrets import token_hex

from aiohttp import web

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.timing import Clock
from forwarder.sources.logpush.body import PushRefusedError
from forwarder.sources.logpush.config import LogpushConfig
from forwarder.sources.logpush.proof import Verifier, have_common, prove, tags
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
    """Passes pushes on to other replicas, and admits what they pass on."""

    def __init__(self, config: LogpushConfig, user_agent: str, clock: Clock) -> None:
        """Connect to nobody yet."""
        self._config = config
        self._clock = clock
        self._verifier = Verifier()
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
        self, request: web.Request, owner: str, path: str, wanted: Callable[[], Awaitable[None]]
    ) -> tuple[int, str]:
        """Return status and text of the owner's answer; raises ``TransientError`` without one.

        ``owner`` is the base URL that a database says, which may be anything. ``wanted`` is called
        when that replica has admitted the push and wants its body.
        """

        async def body() -> AsyncIterator[bytes]:
            await wanted()
            async for chunk in request.content.iter_any():
                yield chunk

        try:
            url = clean_url(owner)
        except ValueError as error:
            raise TransientError(f"its address {error}") from error
        sent = {name: request.headers[name] for name in _SENT if name in request.headers}
        claims = _claims(request, owner, path)
        proof = prove(self._secrets(), self._now_s(), token_hex(16), *claims)
        answer = await self._client.request(
            "POST",
            url + path,
            # Each push has a connection of its own: the other side closes idle ones at any moment.
            headers={**sent, _HOP: proof, "Expect": "100-continue", "Connection": "close"},
            body=body(),
            seconds=self._seconds,
        )
        text = answer.body.decode(errors="replace").removesuffix("\n")
        own = self._marks(proof, answer.status, text)
        if not have_common(answer.headers.get(_HOP, ""), own):
            said = f"{origin(url)} answers {answer.status} and does not prove the push secret"
            why = "its secret or its clock differs from this replica's, or it is not a replica"
            raise TransientError(f"{said}: {why}")
        return answer.status, text

    def admitted(self, request: web.Request, here: str) -> str:
        """Return the proof of the replica that passes a request on; empty for any other client.

        ``here`` is the base URL by which the others know this replica. Raises ``PushRefusedError``:
        a client must never get a 401 for what a replica has admitted.
        """
        proof = request.headers.get(_HOP)
        if proof is None:
            return ""
        claims = _claims(request, here, request.raw_path)
        why = self._verifier.refusal(proof, self._secrets(), self._now_s(), *claims)
        if why:
            raise PushRefusedError("refused_peer", 503, why)
        return proof

    def marks(self, proof: str, status: int, text: str) -> dict[str, str]:
        """Return the headers that prove who answers; none without the ``proof`` of a replica."""
        return {_HOP: self._marks(proof, status, text)} if proof else {}

    async def aclose(self) -> None:
        """Close what is open; idempotent."""
        await self._client.aclose()

    def _marks(self, proof: str, status: int, text: str) -> str:
        return tags(self._secrets(), "answer", proof, str(status), text)

    def _now_s(self) -> int:
        return self._clock.now_us() // 1_000_000

    def _secrets(self) -> list[str]:
        try:
            return self._config.secrets()
        except NeedsOperatorError:
            return []  # the secret's file is gone: closed is the safe side


def _claims(request: web.Request, owner: str, path: str) -> tuple[str, ...]:
    """Return what a proof holds for: this request, to the owner at this address."""
    return (request.method, owner, path, *(request.headers.get(name, "") for name in _SENT))
