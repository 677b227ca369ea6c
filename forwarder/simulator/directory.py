"""The identity providers of an account, which come, go and are switched while it runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from forwarder.simulator.company import IdentityProvider


class Directory:
    """An account's identity providers, and which ids the API accepts in `idp_id`."""

    def __init__(self, providers: Iterable[IdentityProvider]) -> None:
        self._providers = {provider.id: provider for provider in providers}
        self._known = set(self._providers)
        self._refused: set[str] = set()

    def listed(self, *, scim_only: bool = False) -> list[IdentityProvider]:
        """Return the providers that exist, or those that provision."""
        return [one for one in self._providers.values() if one.scim or not scim_only]

    def provisioning(self) -> tuple[str, ...]:
        """Return the ids of the providers that provision."""
        return tuple(one.id for one in self.listed(scim_only=True))

    def add(self, provider: IdentityProvider) -> None:
        """Add a provider, or replace the one of that id."""
        self._providers[provider.id] = provider
        self._known.add(provider.id)
        self._refused.discard(provider.id)

    def remove(self, idp_id: str, *, refused: bool = False) -> None:
        """Take a provider out of the list; its rows stay, unless the id is refused from now on."""
        self._providers.pop(idp_id, None)
        if refused:
            self.refuse(idp_id)

    def switch(self, idp_id: str, *, scim: bool) -> None:
        """Switch a provider's provisioning on or off.

        Raises:
            KeyError: there is no such provider.

        """
        self._providers[idp_id] = replace(self._providers[idp_id], scim=scim)

    def refuse(self, idp_id: str, *, refused: bool = True) -> None:
        """Answer requests that name this id with 400 from now on, or no longer."""
        (self._refused.add if refused else self._refused.discard)(idp_id)

    def accepts(self, idp_id: str, *, unknown: bool) -> bool:
        """Say whether `idp_id` may be asked for; `unknown` says so of ids never heard of."""
        return idp_id not in self._refused and (unknown or idp_id in self._known)
