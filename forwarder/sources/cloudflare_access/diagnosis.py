"""``check --live`` for one account: token, permissions, endpoints, what was observed."""

from __future__ import annotations

from forwarder.core.contracts import Finding
from forwarder.core.errors import TransientError
from forwarder.sources.cloudflare_access import filters, probes
from forwarder.sources.cloudflare_access.account import AccountConfig, ScimUpdatesConfig
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.providers import list_providers

_ABSENT = (
    "logins that were refused before an identity was known, and service-token calls that were "
    "refused, may be absent from this endpoint: Cloudflare keeps them elsewhere (GraphQL)"
)


async def diagnose(api: Api, config: AccountConfig) -> list[Finding]:
    """Look at everything that this account's settings need; nothing is changed or stored."""
    findings = [await _token(api)]
    try:
        now_us = await api.server_time_us()
    except TransientError as error:
        return [*findings, Finding("fault", config.api_url, str(error), error.hint)]
    logins, scim = config.streams.access_requests, config.streams.scim_updates
    if logins is not None:
        query = filters.parameters("access_requests", logins.query)
        ask = probes.login_asker(api, now_us, query)
        findings += await probes.run_probes(ask, probes.LOGIN_PROBES)
        findings.append(Finding("warning", "access_requests", _ABSENT))
        findings += _hidden("access_requests", logins.query)
    if scim is not None:
        findings += await _scim(api, scim, now_us)
    return findings


async def _token(api: Api) -> Finding:
    try:
        token = await api.verify_token()
    except TransientError as error:
        return Finding("fault", "token", str(error), error.hint)
    if token is None:
        return Finding("ok", "token", "an API key cannot be asked about; the endpoints tell")
    level = "ok" if token.status == "active" else "fault"
    until = f", expires {token.expires_on}" if token.expires_on else ""
    hint = "" if level == "ok" else "make a new token and put it where api_token points"
    return Finding(level, "token", f"{token.status}, owned by the {token.owner}{until}", hint)


async def _scim(api: Api, config: ScimUpdatesConfig, now_us: int) -> list[Finding]:
    findings: list[Finding] = []
    if config.identity_providers == "auto":
        try:
            providers = [one for one in await list_providers(api) if one.enabled]
        except TransientError as error:
            return [Finding("fault", "identity_providers", str(error), error.hint)]
        named = ", ".join(f"{one.name or one.id} ({one.type})" for one in providers)
        findings.append(
            Finding(
                "ok",
                "identity_providers",
                f"{len(providers)} provision over SCIM" + (f": {named}" if named else ""),
                "" if providers else "nothing to read until one does; that is healthy",
            )
        )
        ids = [one.id for one in providers]
    else:
        ids = list(config.identity_providers)
    query = filters.parameters("scim_updates", config.query)
    if ids:
        extra = [*(("idp_id", id_) for id_ in ids), *query]
        ask = probes.scim_asker(api, now_us, extra)
        findings += await probes.run_probes(ask, probes.SCIM_PROBES)
    findings.append(await probes.without_ids(probes.scim_asker(api, now_us, query)))
    return findings + _hidden("scim_updates", config.query)


def _hidden(stream: str, query: filters.Query) -> list[Finding]:
    return [Finding("warning", stream, text) for text in filters.warnings(stream, query)]
