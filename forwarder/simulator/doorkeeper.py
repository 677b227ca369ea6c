"""Who may read what: Cloudflare's tokens, legacy keys, and the answers to the wrong ones."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from forwarder.simulator.answers import (
    FOREIGN_ACCOUNT,
    GARBLED_HEADER,
    INVALID_TOKEN,
    MISSING_HEADERS,
    NO_PERMISSION,
    Problem,
    unknown_account,
)
from forwarder.simulator.names import VERIFY
from forwarder.simulator.settings import Token

BEARER = re.compile(r"Bearer ([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


class Doorkeeper:
    """The tokens in force."""

    def __init__(self, tokens: Iterable[Token], accounts: Collection[str]) -> None:
        self._tokens = {token.value: token for token in tokens}
        self._accounts = accounts

    def admit(self, token: Token) -> None:
        """Accept a token from now on, instead of the one with the same value."""
        self._tokens[token.value] = token

    def revoke(self, value: str) -> None:
        """Accept a token no longer."""
        self._tokens.pop(value, None)

    def identify(self, headers: Mapping[str, str]) -> Token | Problem:
        """Return the token that a request carries, or why there is none."""
        if "Authorization" in headers:
            match = BEARER.fullmatch(headers["Authorization"])
            token = self._tokens.get(match[1]) if match else None
            return GARBLED_HEADER if match is None else token or INVALID_TOKEN
        if "X-Auth-Key" in headers and "X-Auth-Email" in headers:
            token = self._tokens.get(headers["X-Auth-Key"])
            fits = token is not None and token.email == headers["X-Auth-Email"]
            return token if token is not None and fits else INVALID_TOKEN
        return MISSING_HEADERS

    def refusal(
        self, token: Token, endpoint: str, account: str | None, path: str
    ) -> Problem | None:
        """Return why a token may not read an endpoint of an account, or None if it may."""
        if account is not None and account not in self._accounts:
            return unknown_account(path)
        if account is not None and token.accounts is not None and account not in token.accounts:
            return FOREIGN_ACCOUNT
        if endpoint == VERIFY:
            known = token.kind == ("user" if account is None else "account")
            return None if known else INVALID_TOKEN
        if token.status != "active":
            return INVALID_TOKEN
        return None if endpoint in token.permissions else NO_PERMISSION
