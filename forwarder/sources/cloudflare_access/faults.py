"""Which answer means what: Cloudflare's errors as a table, and the exceptions they become.

    TransientError
    ├── ThrottledError               the token has used up its quota; the budget knows for how long
    └── NeedsOperatorError
        └── RequestRefusedError      wrong token, permission, account, parameter; ``about`` says

The rows of the table are read from the top; the first that fits decides. Codes and texts are
those that Cloudflare documents or that people have reported of these endpoints.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from forwarder.core.errors import NeedsOperatorError, TransientError

Kind: TypeAlias = Literal["config", "throttled", "transient"]
About: TypeAlias = Literal[
    "token", "permission", "account", "access", "parameters", "address", "proxy", "service"
]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place of the API: its name for people, its path and the permission it needs."""

    name: str
    path: str
    permission: str


ACCESS_REQUESTS = Endpoint(
    "access_requests",
    "/accounts/{account_id}/access/logs/access_requests",
    "Access: Audit Logs Read",
)
SCIM_UPDATES = Endpoint(
    "scim_updates", "/accounts/{account_id}/access/logs/scim/updates", "Access: SCIM Logs Read"
)
IDENTITY_PROVIDERS = Endpoint(
    "identity_providers",
    "/accounts/{account_id}/access/identity_providers",
    "Access: Organizations, Identity Providers, and Groups Read",
)
VERIFY_ACCOUNT_TOKEN = Endpoint("verify", "/accounts/{account_id}/tokens/verify", "")
VERIFY_USER_TOKEN = Endpoint("verify", "/user/tokens/verify", "")


class ThrottledError(TransientError):
    """The quota is used up; ``retry_after`` is how long the budget now holds everything back."""


class RequestRefusedError(NeedsOperatorError):
    """Cloudflare refuses the request until a person changes something.

    ``about`` says what: ``parameters`` is the one that another request may not share (an
    identity provider's id that is refused, for example). ``status`` and ``codes`` are as received.
    """

    def __init__(
        self, message: str, *, about: About, status: int, codes: Sequence[int], hint: str
    ) -> None:
        """Keep what a caller may decide by."""
        super().__init__(message, hint=hint)
        self.about = about
        self.status = status
        self.codes = tuple(codes)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an answer without rows says. ``messages`` are matched, never shown."""

    status: int
    codes: tuple[int, ...] = ()
    messages: tuple[str, ...] = ()
    ray: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table; what is empty fits everything. Codes or pattern: one must fit."""

    kind: Kind
    about: About
    problem: str
    hint: str = ""
    statuses: Collection[int] = ()
    codes: Collection[int] = ()
    pattern: str = ""

    def fits(self, refusal: Refusal) -> bool:
        """Say whether this row decides about the answer."""
        if self.statuses and refusal.status not in self.statuses:
            return False
        if not self.codes and not self.pattern:
            return True
        return any(code in self.codes for code in refusal.codes) or (
            bool(self.pattern) and any(re.search(self.pattern, one) for one in refusal.messages)
        )


_ANSWERED = (200, *range(400, 500))
"""Statuses whose error codes are Cloudflare's considered word; above 499 something broke."""

_REPLACE = "put a valid API token into the settings or its file; `forwarder check --live` tries it"
_GRANT = "give the token `{permission}` for this account; a token made just now needs a minute"
STRANGE = (
    "it is asked again; if it stays so check api_url and what is in between, such as a proxy, then "
    "ask Cloudflare with the cf-ray"
)
"""What to do about answers that Cloudflare's own servers should not give."""

TABLE: tuple[Rule, ...] = (
    Rule("throttled", "service", "too many requests", statuses=(429,)),
    Rule("throttled", "service", "too many requests", codes=(971, 10013, 10429)),
    Rule(
        "config",
        "token",
        "the credentials are malformed or missing",
        "the token is one word without quotes and without `Bearer`",
        _ANSWERED,
        (6003, 6111, 9106),
    ),
    Rule("config", "token", "the token is not valid", _REPLACE, _ANSWERED, (1000,)),
    Rule(
        "config",
        "token",
        "the token is not valid",
        _REPLACE,
        _ANSWERED,
        (),
        r"(?i)invalid (access|api) token",
    ),
    Rule(
        "config",
        "permission",
        "the token may not read this of the account",
        _GRANT,
        _ANSWERED,
        (7403, 9109, 10000),
    ),
    Rule(
        "config",
        "access",
        "Access is not enabled on the account",
        "set up Zero Trust for this account, or check account_id",
        _ANSWERED,
        (),
        r"access\.api\.error\.not_enabled",
    ),
    Rule(
        "config",
        "account",
        "there is no such account or address",
        "check account_id, then api_url",
        _ANSWERED,
        (7000, 7003),
    ),
    Rule(
        "config",
        "parameters",
        "a parameter is refused",
        "check `query` and the identity providers' ids",
        _ANSWERED,
        (12130,),
        r"access\.api\.error\.(invalid_request|not_found|conflict)",
    ),
    Rule("config", "token", "the credentials are refused", _REPLACE, (401,)),
    Rule("config", "permission", "access is forbidden", _GRANT, (403,)),
    Rule("config", "account", "nothing is found there", "check account_id, then api_url", (404,)),
    Rule("config", "proxy", "the proxy wants credentials", "check `proxy`", (407,)),
    Rule("transient", "service", "the request took too long", statuses=(408, 425)),
    Rule(
        "config",
        "parameters",
        "the request is refused",
        "check `query` and the identity providers' ids",
        range(400, 500),
    ),
    Rule(
        "config",
        "address",
        "the answer is a redirect, which is not followed with credentials",
        "set api_url to the address it leads to, if you trust that",
        range(300, 400),
    ),
    Rule(
        "transient",
        "service",
        "the service is out of order",
        "it is asked again; https://www.cloudflarestatus.com tells of outages",
        range(500, 600),
    ),
    Rule("transient", "service", "the answer does not hold what was asked for", STRANGE),
)


def error_for(refusal: Refusal, endpoint: Endpoint) -> TransientError:
    """Return the exception for an answer without rows; it names no content of the answer."""
    rule = next(rule for rule in TABLE if rule.fits(refusal))
    text = f"{endpoint.name}: {rule.problem} ({described(refusal)})"
    hint = rule.hint.format(permission=endpoint.permission or "the permission it needs")
    if rule.kind == "throttled":
        return ThrottledError(text, retry_after=refusal.retry_after, hint=hint)
    if rule.kind == "config":
        return RequestRefusedError(
            text, about=rule.about, status=refusal.status, codes=refusal.codes, hint=hint
        )
    return TransientError(text, retry_after=refusal.retry_after, hint=hint)


def described(refusal: Refusal) -> str:
    """Return status, codes and cf-ray: what Cloudflare's support asks for."""
    codes = ", ".join(str(code) for code in refusal.codes)
    parts = (
        f"HTTP {refusal.status}",
        codes and f"code {codes}",
        refusal.ray and f"cf-ray {refusal.ray}",
    )
    return ", ".join(part for part in parts if part)
