"""Who may ask, and how often.

Cloudflare's request quota: a sliding window per token, and a block for whoever exceeds it.

The documented policy is 1200 requests in five minutes per token; one request more and *every*
call of that token is answered 429 for the next five minutes. All answers carry `Ratelimit` and
`Ratelimit-Policy`; only a 429 carries `Retry-After`.

Who may read what: Cloudflare's tokens, legacy keys, and the answers to the wrong ones.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from forwarder.simulator.faults import VERIFY
from forwarder.simulator.query import (
    FOREIGN_ACCOUNT,
    GARBLED_HEADER,
    INVALID_TOKEN,
    MISSING_HEADERS,
    NO_PERMISSION,
    Problem,
    unknown_account,
)
from forwarder.simulator.settings import Token


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """`requests` in any `window` seconds; `block` seconds of 429 after that (default: `window`)."""

    requests: int = 1200
    window: float = 300.0
    block: float | None = None

    @property
    def blocked_for(self) -> float:
        """How long a client stays blocked, in seconds."""
        return self.window if self.block is None else self.block


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the quota says about one request; times in seconds."""

    allowed: bool
    remaining: int
    reset: float

    def headers(self, policy: RatePolicy) -> dict[str, str]:
        """Return the headers that tell a client about its quota."""
        told = {
            "Ratelimit": f'"default";r={self.remaining};t={ceil(self.reset)}',
            "Ratelimit-Policy": f'"default";q={policy.requests};w={ceil(policy.window)}',
        }
        return told if self.allowed else {**told, "Retry-After": str(ceil(self.reset))}


class RateLimiter:
    """Counts requests per client and blocks the one that exceeds the policy."""

    def __init__(self, policy: RatePolicy | None) -> None:
        self._policy = policy
        self._recent: dict[str, deque[float]] = {}
        self._blocked_until: dict[str, float] = {}
        self.exceeded = 0
        """How often a client went over its quota (refusals while blocked are not counted)."""

    def charge(self, client: str, now: float) -> Verdict | None:
        """Count one request of `client` at `now`; None when there is no policy."""
        if self._policy is None:
            return None
        blocked_until = self._blocked_until.get(client, 0.0)
        if now < blocked_until:
            return Verdict(allowed=False, remaining=0, reset=blocked_until - now)
        return self._count(client, now, self._policy)

    def headers(self, verdict: Verdict | None) -> dict[str, str]:
        """Return the quota headers of an answer."""
        if verdict is None or self._policy is None:
            return {}
        return verdict.headers(self._policy)

    def blocked(self, now: float) -> int:
        """Return how many clients are blocked."""
        return sum(until > now for until in self._blocked_until.values())

    def _count(self, client: str, now: float, policy: RatePolicy) -> Verdict:
        recent = self._recent.setdefault(client, deque())
        while recent and recent[0] <= now - policy.window:
            recent.popleft()
        if len(recent) >= policy.requests:
            return self._block(client, now, policy)
        recent.append(now)
        remaining = policy.requests - len(recent)
        return Verdict(allowed=True, remaining=remaining, reset=recent[0] + policy.window - now)

    def _block(self, client: str, now: float, policy: RatePolicy) -> Verdict:
        self.exceeded += 1
        self._blocked_until[client] = now + policy.blocked_for
        return Verdict(allowed=False, remaining=0, reset=policy.blocked_for)


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
