"""The source plugin: the streams of one account, what normalises them, what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from forwarder.core.contracts import Finding
from forwarder.core.schema import Normaliser
from forwarder.core.source_contract import SourceContext, StreamPlan
from forwarder.core.timing import Clock, parse_us
from forwarder.sources.cloudflare_access.account import AccountConfig
from forwarder.sources.cloudflare_access.account_audit import RETENTION, AccountAudit
from forwarder.sources.cloudflare_access.activity_mapping import ACCOUNT_AUDIT, STEPS
from forwarder.sources.cloudflare_access.answers import Endpoint
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.diagnosis import diagnose
from forwarder.sources.cloudflare_access.jit_requests import HOLD_BACK, JIT_RETENTION, JitRequests
from forwarder.sources.cloudflare_access.login_mapping import GROUPS, LOGINS
from forwarder.sources.cloudflare_access.logs import AccessRequests
from forwarder.sources.cloudflare_access.non_identity import (
    GROUPS_RETENTION,
    NonIdentityLogins,
)
from forwarder.sources.cloudflare_access.rate_limit import RateLimiters, credential_of
from forwarder.sources.cloudflare_access.scim.mapping import SCIM_UPDATES
from forwarder.sources.cloudflare_access.scim.updates import ScimUpdates

_PUSH_JOBS = Endpoint("logpush_jobs", "/accounts/{account_id}/logpush/jobs", "Logs Edit")


class CloudflareAccess:
    """One account. Makes no connection before the first request."""

    Config: ClassVar[type[AccountConfig]] = AccountConfig
    summary: ClassVar[str] = (
        "Cloudflare Access: logins, SCIM provisioning and the audit log of one account"
    )
    normalisers: ClassVar[Mapping[str, Normaliser]] = {
        AccessRequests.stream: LOGINS,
        ScimUpdates.stream: SCIM_UPDATES,
        AccountAudit.stream: ACCOUNT_AUDIT,
        JitRequests.stream: STEPS,
        NonIdentityLogins.stream: GROUPS,
    }

    def __init__(self, config: AccountConfig, context: SourceContext) -> None:
        """Take the account's settings; ``context.shared`` is what ``share`` made."""
        limiters: RateLimiters = context.shared
        self._config = config
        self._context = context
        self.api = Api(
            config,
            # The budget belongs to the token, not to the account, and accounts may share a token.
            limiters.of(config),
            context.clock,
            user_agent=context.user_agent,
            emit=context.emit,
            queries=limiters.of_queries(config),
        )

    @classmethod
    def share(cls, clock: Clock, remembered: Any | None) -> RateLimiters:
        """Make what all accounts of a process share: one rate limiter a token.

        ``remembered`` is what ``snapshot()`` of an earlier process gave, or None.
        """
        return RateLimiters(clock, remembered)

    @classmethod
    def credential(cls, config: AccountConfig) -> str:
        """Return a short hash that tells tokens apart: accounts with one token share its budget."""
        return credential_of(config)

    def streams(self) -> dict[str, StreamPlan]:
        """Return the streams that the settings switch on."""
        plans: dict[str, StreamPlan] = {}
        config, context = self._config, self._context
        logins, scim = config.streams.access_requests, config.streams.scim_updates
        if logins is not None:
            source = AccessRequests(self.api, config, logins)
            plans[AccessRequests.stream] = StreamPlan(source, logins)
        if scim is not None:
            updates = ScimUpdates(self.api, config, scim, context.clock, context.emit)
            plans[ScimUpdates.stream] = StreamPlan(updates, scim)
        if (audit := config.streams.account_audit) is not None:
            plans[AccountAudit.stream] = StreamPlan(
                AccountAudit(self.api, config, audit),
                audit,
                hold_back=audit.hold_back,
                retention=RETENTION,
            )
        if (requests := config.streams.jit_requests) is not None:
            plans[JitRequests.stream] = StreamPlan(
                JitRequests(self.api, config, requests), requests, HOLD_BACK, JIT_RETENTION
            )
        if (groups := config.streams.non_identity_logins) is not None:
            plans[NonIdentityLogins.stream] = StreamPlan(
                NonIdentityLogins(self.api, config, groups),
                groups,
                groups.hold_back,
                GROUPS_RETENTION,
            )
        return plans

    async def credential_expires_s(self) -> float | None:
        """Return when the token ends; see ``core.source_contract.Expiring``."""
        token = await self.api.verify_token()
        ends_us = None if token is None else parse_us(token.expires_on)
        return None if ends_us is None else ends_us / 1_000_000

    async def diagnose(self) -> list[Finding]:
        """Check token, permissions and endpoints for ``check --live``; changes nothing."""
        return await diagnose(self.api, self._config)

    async def push_jobs(self) -> Sequence[Mapping[str, Any]]:
        """Return the account's Logpush jobs; see ``core.source_contract.Pushing``."""
        return (await self.api.get(_PUSH_JOBS)).rows

    async def aclose(self) -> None:
        """Close all connections; idempotent."""
        await self.api.aclose()
