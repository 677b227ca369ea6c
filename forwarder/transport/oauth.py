"""OAuth 2.0 tokens by client credentials (RFC 6749, 4.4), kept until shortly before they expire."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from pydantic import Field, model_validator

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.timing import Clock
from forwarder.transport.http import HttpClient, HttpSettings, basic
from forwarder.transport.settings import Secret, Settings, TlsSettings, Url, origin

_TOKEN_SECONDS = 20.0
# A token is renewed after this share of its life, so that none expires on its way.
_EARLY = 0.8
_DEFAULT_LIFE = 300.0
_SHORTEST_LIFE, _LONGEST_LIFE = 5.0, 86_400.0
"""What a life is taken for that is shorter, or longer, or no number."""
_CLIENT_FAULT, _SERVER_FAULT = 400, 500
_TOO_MANY = 429
# RFC 7523: a token of the platform, such as a Kubernetes service account's, in place of a secret.
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class OAuthSettings(Settings):
    """Where tokens are given out, and as whom the sink asks for them."""

    token_url: Url = Field(description="address that gives out tokens")
    client_id: str = Field(min_length=1, description="name of the client there")
    client_secret: Secret | None = Field(None, description="secret of the client")
    client_assertion: Secret | None = Field(
        None, description="signed token of the platform in place of a secret (workload identity)"
    )
    scope: str | None = Field(None, description="scope, if the token server wants one")
    audience: str | None = Field(None, description="audience, if the token server wants one")
    client_auth: Literal["basic", "post"] = Field(
        "basic", description="how the secret is sent: as basic authentication, or in the form"
    )
    ca_file: Path | None = Field(None, description="authority of token_url, if not a public one")

    @model_validator(mode="after")
    def _one_proof(self) -> OAuthSettings:
        if (self.client_secret is None) == (self.client_assertion is None):
            raise ValueError("give either client_secret or client_assertion")
        return self

    def request(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the headers and the form of a request for a token."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        form = {"grant_type": "client_credentials", "scope": self.scope, "audience": self.audience}
        if self.client_assertion is not None:
            proof = self.client_assertion.reveal()
            form |= {"client_assertion_type": _ASSERTION, "client_assertion": proof}
            form["client_id"] = self.client_id
        elif self.client_secret is not None and self.client_auth == "post":
            form |= {"client_id": self.client_id, "client_secret": self.client_secret.reveal()}
        elif self.client_secret is not None:
            # As they are, like Kafka's own clients: RFC 6749 would have them form-encoded before,
            # which many token servers do not undo.
            headers["Authorization"] = basic(self.client_id, self.client_secret.reveal())
        return headers, {name: value for name, value in form.items() if value}


class TokenSource:
    """Fetches tokens and keeps the last one. Secrets are read again for each request."""

    def __init__(
        self, settings: OAuthSettings, clock: Clock, *, via: HttpSettings | None = None
    ) -> None:
        """Fetch nothing yet; the token server is reached through the proxy of ``via``."""
        self._settings = settings
        self._clock = clock
        self._token: str | None = None
        self._renew_at = 0.0
        self._asking = asyncio.Lock()
        tls = TlsSettings(ca_file=settings.ca_file)
        self._server = HttpSettings(url=settings.token_url, tls=tls)
        if via is not None:
            keys = ("proxy", "proxy_username", "proxy_password", "connect_timeout")
            self._server = self._server.model_copy(update={key: getattr(via, key) for key in keys})

    async def token(self, *, refused: str | None = None) -> str:
        """Return a token; called for each request or connection that needs one.

        ``refused`` is a token that was not accepted: it is not returned again, unless the token
        server insists on it. Raises ``NeedsOperatorError`` when the token server refuses us,
        ``TransientError`` when it is away.
        """
        async with self._asking:
            due = self._clock.monotonic() >= self._renew_at
            if self._token is None or due or self._token == refused:
                self._token, life = await self._ask()
                self._renew_at = self._clock.monotonic() + _EARLY * life
            return self._token

    async def _ask(self) -> tuple[str, float]:
        headers, form = self._settings.request()
        # A client for each request: one comes in an hour, and no connection has to be closed.
        client = HttpClient(self._server, user_agent="forwarder")
        try:
            answer = await client.request(
                "POST",
                self._settings.token_url,
                headers=headers,
                body=urlencode(form).encode(),
                seconds=_TOKEN_SECONDS,
            )
        except TransientError as error:
            said = f"no token: {error}"
            raise type(error)(said, hint=error.hint) from error
        finally:
            await client.aclose()
        return read_token(answer.status, answer.body, origin(self._settings.token_url))


def read_token(status: int, body: bytes, where: str) -> tuple[str, float]:
    """Return token and life in seconds out of the answer of the token server ``where``.

    Raises ``TransientError`` for 429 and 5xx, ``NeedsOperatorError`` for all else without a token.
    """
    said = f"no token: {where} answers {status}"
    if status >= _SERVER_FAULT or status == _TOO_MANY:
        raise TransientError(said)
    if status >= _CLIENT_FAULT:
        hint = "check token_url, client_id, client_secret and scope"
        raise NeedsOperatorError(said, hint=hint)
    try:
        answer = json.loads(body)
        token, life = str(answer["access_token"]), float(answer.get("expires_in", _DEFAULT_LIFE))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NeedsOperatorError(
            f"{said}, and its answer holds no token",
            hint="check that token_url is the token endpoint",
        ) from error
    # In this order NaN, which JSON does not have and Python reads, is the shortest.
    return token, min(_LONGEST_LIFE, max(_SHORTEST_LIFE, life))
