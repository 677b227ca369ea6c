"""Tokens for SASL OAUTHBEARER, by the OAuth 2.0 client credentials grant (RFC 6749, 4.4)."""

from __future__ import annotations

import asyncio
import json
import ssl

import aiohttp
from aiokafka.abc import AbstractTokenProvider

from forwarder.core.clock import Clock
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.kafka.config import SaslSettings

_TIMEOUT = aiohttp.ClientTimeout(total=20)
_EARLY = 0.8
"""A token is renewed after this share of its life."""
_DEFAULT_LIFE = 300.0
_CLIENT_FAULT, _SERVER_FAULT = 400, 500
_TOO_MANY = 429


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc] # aiokafka ships no types
    """Fetches a token and keeps it until shortly before it expires."""

    def __init__(self, sasl: SaslSettings, clock: Clock) -> None:
        """Ask for nothing yet."""
        self._sasl = sasl
        self._clock = clock
        self._token: str | None = None
        self._renew_at = 0.0
        self._asking = asyncio.Lock()

    async def token(self) -> str:
        """Return a token; aiokafka calls this for every connection to a broker.

        Raises ``NeedsOperatorError`` when the token server refuses us.
        """
        async with self._asking:
            if self._token is None or self._clock.monotonic() >= self._renew_at:
                self._token, life = await self._ask()
                self._renew_at = self._clock.monotonic() + _EARLY * life
            return self._token

    async def _ask(self) -> tuple[str, float]:
        sasl = self._sasl
        form = {"grant_type": "client_credentials"} | ({"scope": sasl.scope} if sasl.scope else {})
        secret = sasl.client_secret.reveal() if sasl.client_secret else ""
        login = aiohttp.encode_basic_auth(sasl.client_id or "", secret)
        context = ssl.create_default_context(cafile=sasl.ca_file)
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.post(
                    sasl.token_url or "",
                    data=form,
                    headers={"Authorization": login},
                    ssl=context,
                    allow_redirects=False,
                ) as response,
            ):
                return read_token(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TransientError(f"Kafka: no answer from the token server: {error}") from error


def read_token(status: int, body: bytes) -> tuple[str, float]:
    """Return token and life in seconds out of a token server's answer."""
    if status >= _SERVER_FAULT or status == _TOO_MANY:
        raise TransientError(f"Kafka: the token server answers {status}")
    if status >= _CLIENT_FAULT:
        raise NeedsOperatorError(
            f"Kafka: the token server answers {status}",
            hint="check sasl.token_url, sasl.client_id, sasl.client_secret and sasl.scope",
        )
    try:
        answer = json.loads(body)
        return str(answer["access_token"]), float(answer.get("expires_in", _DEFAULT_LIFE))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NeedsOperatorError(
            f"Kafka: the token server's answer ({status}) holds no token",
            hint="check that sasl.token_url is the token endpoint",
        ) from error
