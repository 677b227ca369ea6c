"""What a simulator is asked to be: accounts, tokens, traffic, and how the API behaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from forwarder.simulator.access import RatePolicy
from forwarder.simulator.faults import ACCESS_REQUESTS, IDENTITY_PROVIDERS, SCIM_UPDATES, Fault

DEFAULT_ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
DEFAULT_TOKEN = "simulated-token"  # noqa: S105 - opens nothing else  # nosec B105
DOCUMENTED_POLICY = RatePolicy()
ALL_PERMISSIONS = frozenset({ACCESS_REQUESTS, SCIM_UPDATES, IDENTITY_PROVIDERS})


@dataclass(frozen=True, slots=True)
class Token:
    """An API token, or with `email` a legacy API key.

    `permissions` names the endpoints it may read; `accounts` limits it to some accounts (None:
    all); `kind` says whether the user's or the account's verify endpoint knows it.
    """

    value: str = field(repr=False)
    permissions: frozenset[str] = ALL_PERMISSIONS
    accounts: frozenset[str] | None = None
    kind: Literal["user", "account"] = "user"
    status: Literal["active", "disabled", "expired"] = "active"
    email: str | None = None


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """One simulator; rates are rows a second per account, durations are seconds."""

    accounts: tuple[str, ...] = (DEFAULT_ACCOUNT,)
    tokens: tuple[Token, ...] = (Token(DEFAULT_TOKEN),)
    seed: int = 1
    rate: float = 2.0
    scim_rate: float = 0.1
    history: float = 3600.0
    """Generated rows reach back this far from the start."""
    retention: float = 86400.0
    """Older rows are no longer shown."""
    clock_offset: float = 0.0
    """The server's clock is ahead of the machine's by this much; ignored with a clock given."""
    policy: RatePolicy | None = DOCUMENTED_POLICY
    faults: tuple[Fault, ...] = ()
    """Active from the start."""
    page_cap: int = 1000
    refuse_over_cap: bool = False
    """Answer a page size above the cap with 400 instead of silently serving fewer rows."""
    unsent_size_counts: bool = False
    """`limit` and `per_page` always both apply, so leaving one out leaves its small default."""
    inclusive_since: bool = True
    whole_second_since: bool = False
    require_idp_id: bool = True
    refuse_unknown_idp: bool = True
