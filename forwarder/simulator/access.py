"""Who may read what, and how often: Cloudflare's tokens, legacy keys, error answers and quota."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import orjson

from forwarder.simulator.faults import VERIFY
from forwarder.simulator.settings import RatePolicy, Token

# The scheme ignores case (RFC 9110), the token does not.
BEARER = re.compile(r"Bearer ([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer: HTTP status, Cloudflare's code and message, and the chain of causes."""

    status: int
    code: int
    message: str
    chain: tuple[tuple[int, str], ...] = ()

    def body(self) -> bytes:
        """Return Cloudflare's envelope around this error."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.chain:
            error["error_chain"] = [{"code": code, "message": text} for code, text in self.chain]
        return orjson.dumps({"success": False, "errors": [error], "messages": [], "result": None})


MISSING_HEADERS = Problem(400, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")
GARBLED_HEADER = Problem(
    400, 6003, "Invalid request headers", ((6111, "Invalid format for Authorization header"),)
)
INVALID_TOKEN = Problem(401, 1000, "Invalid API Token")
NO_PERMISSION = Problem(403, 10000, "Authentication error")
FOREIGN_ACCOUNT = Problem(403, 9109, "Unauthorized to access requested resource")
NO_ROUTE = Problem(404, 7000, "No route for that URI")
THROTTLED = Problem(429, 971, "Please wait and consider throttling your request speed")


def unknown_account(path: str) -> Problem:
    """Return the error for an account that does not exist."""
    return Problem(
        404, 7003, f"Could not route to {path}, perhaps your object identifier is invalid?"
    )


def bad_parameter(reason: str) -> Problem:
    """Return the error for an invalid query parameter."""
    return Problem(400, 12130, f"access.api.error.invalid_request: {reason}")


class Authenticator:
    """The valid tokens, and what each may read."""

    def __init__(self, tokens: Iterable[Token], accounts: Collection[str]) -> None:
        self._tokens = {token.value: token for token in tokens}
        self._accounts = accounts

    def admit(self, token: Token) -> None:
        """Accept a token from now on. Replaces a token with the same value."""
        self._tokens[token.value] = token

    def revoke(self, value: str) -> None:
        """Stop accepting a token."""
        self._tokens.pop(value, None)

    def identify(self, headers: Mapping[str, str]) -> Token | Problem:
        """Return the token of a request, or the error if the request has no valid token."""
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
        # In the order of Cloudflare: the account must exist before the token is judged.
        if account is not None and account not in self._accounts:
            return unknown_account(path)
        if account is not None and token.accounts is not None and account not in token.accounts:
            return FOREIGN_ACCOUNT
        if endpoint == VERIFY:
            # Cloudflare verifies a token only where it was made: at the user's or the account's
            # endpoint. The other one calls a valid token invalid.
            known = token.kind == ("user" if account is None else "account")
            return None if known else INVALID_TOKEN
        if token.status != "active":
            return INVALID_TOKEN
        return None if endpoint in token.permissions else NO_PERMISSION


@dataclass(frozen=True, slots=True)
class Quota:
    """The quota after one request: is it allowed, requests left, seconds until more are."""

    allowed: bool
    remaining: int
    reset: float

    def headers(self, policy: RatePolicy) -> dict[str, str]:
        """Return the headers that tell a client its quota; only a refusal has `Retry-After`."""
        headers = {
            "Ratelimit": f'"default";r={self.remaining};t={ceil(self.reset)}',
            "Ratelimit-Policy": f'"default";q={policy.requests};w={ceil(policy.window)}',
        }
        return headers if self.allowed else {**headers, "Retry-After": str(ceil(self.reset))}


class RateLimiter:
    """Cloudflare's request quota: a sliding window per client, and a block for who exceeds it.

    The documented policy is 1200 requests in five minutes per token. One request more, and every
    request of that token is answered with 429 for the next five minutes.
    """

    def __init__(self, policy: RatePolicy | None) -> None:
        self._policy = policy
        self._recent: dict[str, deque[float]] = {}
        self._blocked_until: dict[str, float] = {}
        self.exceeded = 0
        """How often a client exceeded its quota. Refusals while it is blocked do not count."""

    def charge(self, client: str, now: float) -> Quota | None:
        """Count one request of `client` at `now`. Returns None if there is no policy."""
        if self._policy is None:
            return None
        # Requests while blocked do not prolong the block.
        blocked_until = self._blocked_until.get(client, 0.0)
        if now < blocked_until:
            return Quota(allowed=False, remaining=0, reset=blocked_until - now)
        return self._count(client, now, self._policy)

    def headers(self, quota: Quota | None) -> dict[str, str]:
        """Return the quota headers of an answer."""
        if quota is None or self._policy is None:
            return {}
        return quota.headers(self._policy)

    def blocked(self, now: float) -> int:
        """Return how many clients are blocked."""
        return sum(until > now for until in self._blocked_until.values())

    def _count(self, client: str, now: float, policy: RatePolicy) -> Quota:
        recent = self._recent.setdefault(client, deque())
        while recent and recent[0] <= now - policy.window:
            recent.popleft()
        if len(recent) >= policy.requests:
            return self._block(client, now, policy)
        recent.append(now)
        remaining = policy.requests - len(recent)
        return Quota(allowed=True, remaining=remaining, reset=recent[0] + policy.window - now)

    def _block(self, client: str, now: float, policy: RatePolicy) -> Quota:
        self.exceeded += 1
        self._blocked_until[client] = now + policy.blocked_for
        return Quota(allowed=False, remaining=0, reset=policy.blocked_for)
