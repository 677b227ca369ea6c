"""The settings of a simulator: accounts, tokens, quota, traffic, and variants of the API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from forwarder.simulator.faults import (
    ACCESS_REQUESTS,
    ACCOUNT_AUDIT,
    IDENTITY_PROVIDERS,
    JIT_REQUESTS,
    LOGPUSH_JOBS,
    NON_IDENTITY_LOGINS,
    SCIM_UPDATES,
    SERVICE_TOKENS,
    Fault,
)

DEFAULT_ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
DEFAULT_TOKEN = "simulated-token"  # noqa: S105 - opens nothing else  # nosec B105
ALL_PERMISSIONS = frozenset(
    {
        *(ACCESS_REQUESTS, SCIM_UPDATES, ACCOUNT_AUDIT, JIT_REQUESTS, NON_IDENTITY_LOGINS),
        *(SERVICE_TOKENS, IDENTITY_PROVIDERS, LOGPUSH_JOBS),
    }
)


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """`requests` in any `window` seconds, then `block` seconds of 429 (None: `window` seconds)."""

    requests: int = 1200
    window: float = 300.0
    block: float | None = None

    @property
    def blocked_for(self) -> float:
        """How long a client stays blocked, in seconds."""
        return self.window if self.block is None else self.block


DOCUMENTED_POLICY = RatePolicy()
QUERY_POLICY = RatePolicy(requests=300)
"""Queries of GraphQL, which are counted apart."""


@dataclass(frozen=True, slots=True)
class Token:
    """An API token, or with `email` a legacy API key.

    `permissions` are the endpoints it may read; `accounts` limits it to some accounts (None: all);
    `kind` selects the verify endpoint that knows it, the user's or the account's, which also tells
    `expires_on` (RFC 3339) if it is set.
    """

    value: str = field(repr=False)
    permissions: frozenset[str] = ALL_PERMISSIONS
    accounts: frozenset[str] | None = None
    kind: Literal["user", "account"] = "user"
    status: Literal["active", "disabled", "expired"] = "active"
    email: str | None = None
    expires_on: str | None = None


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """The settings of one simulator; rates are rows a second per account, durations are seconds."""

    accounts: tuple[str, ...] = (DEFAULT_ACCOUNT,)
    tokens: tuple[Token, ...] = (Token(DEFAULT_TOKEN),)
    seed: int = 1
    rate: float = 2.0
    scim_rate: float = 0.1
    audit_rate: float = 0.0
    jit_rate: float = 0.0
    anonymous_rate: float = 0.0
    """Logins without identity, and a tenth of them with one."""
    history: float = 3600.0
    """At the start there are generated rows of this many seconds."""
    retention: float = 86400.0
    """Older rows are no longer shown."""
    clock_offset: float = 0.0
    """Seconds that the server's clock is ahead of the machine's; ignored if a clock is given."""
    policy: RatePolicy | None = DOCUMENTED_POLICY
    query_policy: RatePolicy | None = QUERY_POLICY
    faults: tuple[Fault, ...] = ()
    """Active from the start."""
    page_cap: int = 1000
    refuse_over_cap: bool = False
    """Refuse a page size above the cap with 400 instead of returning a smaller page."""
    unsent_size_counts: bool = False
    """`limit` and `per_page` both apply always, so an omitted one applies its small default."""
    inclusive_since: bool = True
    whole_second_since: bool = False
    require_idp_id: bool = True
    refuse_unknown_idp: bool = True
