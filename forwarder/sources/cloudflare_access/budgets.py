"""All budgets of a process: accounts that use one token share one."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from forwarder.core.clock import Clock
from forwarder.core.errors import NeedsOperatorError
from forwarder.sources.cloudflare_access.account import AccountConfig, RateLimit
from forwarder.sources.cloudflare_access.budget import Budget

_KEY_BYTES = 8


class Budgets:
    """Made once by whoever makes the sources, and handed to each."""

    def __init__(self, clock: Clock, remembered: Mapping[str, Any] | None = None) -> None:
        """Take what ``snapshot`` gave an earlier process, if there was one."""
        self._clock = clock
        self._remembered = dict(remembered or {})
        self._budgets: dict[str, Budget] = {}
        self._limits: dict[str, dict[str, RateLimit | None]] = {}

    def of(self, config: AccountConfig) -> Budget:
        """Return the budget of an account's token.

        It obeys the limits of all accounts with that token; asked again for an account, with
        settings that were changed, it obeys the new ones.
        """
        key = _key(config)
        budget = self._budgets.get(key)
        if budget is None:
            budget = self._budgets[key] = Budget(config.rate_limit, self._clock)
            budget.restore(self._remembered.pop(key, {}))
        limits = self._limits.setdefault(key, {})
        limits[config.account_id] = config.rate_limit
        budget.limit_to(limit for limit in limits.values() if limit is not None)
        return budget

    def snapshot(self) -> dict[str, Any]:
        """Return what a later process should know, as JSON; it holds no secret."""
        return {key: budget.snapshot() for key, budget in self._budgets.items()}


def _key(config: AccountConfig) -> str:
    """Return a short hash that tells tokens apart and gives none away."""
    secret = config.api_token or config.api_key
    try:
        credential = secret.reveal() if secret else ""
    except NeedsOperatorError:
        credential = str(secret)
    text = "\n".join((config.api_url, config.email or "", credential))
    return blake2b(text.encode(), digest_size=_KEY_BYTES).hexdigest()
