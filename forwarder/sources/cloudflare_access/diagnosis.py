"""``check --live`` for one account: token, permissions, endpoints, and how the API behaves.

None of the probes matters for completeness (the walk makes them irrelevant); they tell an operator
which settings fit, and a developer where the API has changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from forwarder.core.contracts import Finding, Window
from forwarder.core.errors import TransientError
from forwarder.core.timing import format_seconds, parse_us
from forwarder.sources.cloudflare_access.account import (
    AccountAuditConfig,
    AccountConfig,
    Query,
    ScimUpdatesConfig,
    parameters,
    warnings,
)
from forwarder.sources.cloudflare_access.account_audit import (
    Place,
    filters,
    request_parameters,
)
from forwarder.sources.cloudflare_access.activity_mapping import concerns_access
from forwarder.sources.cloudflare_access.answers import (
    ACCESS_REQUESTS,
    ACCOUNT_AUDIT,
    AUDIT_CATEGORIES,
    JIT_REQUESTS,
    SCIM_UPDATES,
    SERVICE_TOKENS,
    Answer,
    Endpoint,
)
from forwarder.sources.cloudflare_access.api import Api, Params
from forwarder.sources.cloudflare_access.non_identity import (
    NON_IDENTITY_LOGINS,
    SETTINGS,
    Slice,
    groups_query,
    of_account,
    read_groups,
    read_node,
)
from forwarder.sources.cloudflare_access.scim.providers import list_providers
from forwarder.transport.settings import format_duration

SECOND_US = 1_000_000
_HOUR_US = 3600 * SECOND_US
# Longer than any plan keeps its logs.
_YEAR_US = 366 * 24 * _HOUR_US
_PAGE = 1000
Probe = Callable[["Prober"], Awaitable[Finding]]


class Prober:
    """Requests rows of one log, with window and page size filled in."""

    def __init__(
        self, api: Api, endpoint: Endpoint, time_key: str, now_us: int, extra: Params = ()
    ) -> None:
        """Take the server's time and the parameters that every request of the log carries."""
        self._api = api
        self.endpoint = endpoint
        self.time_key = time_key
        self.now_us = now_us
        self._extra = tuple(extra)

    async def rows(self, since_us: int, *, per_page: int = _PAGE, limit: int = _PAGE) -> Answer:
        """Return the first page from ``since_us`` to now, oldest first."""
        return await self._api.get(
            self.endpoint,
            [
                ("direction", "asc"),
                ("since", format_seconds(since_us)),
                ("until", format_seconds(self.now_us)),
                ("page", "1"),
                ("per_page", str(per_page)),
                ("limit", str(limit)),
                *self._extra,
            ],
        )

    def times(self, answer: Answer) -> list[int]:
        """Return the usable times of an answer's rows."""
        times = (parse_us(row.get(self.time_key)) for row in answer.rows)
        return [time_us for time_us in times if time_us is not None]

    def found(self, text: str, hint: str = "") -> Finding:
        """Return an observation about this endpoint."""
        return Finding("ok", self.endpoint.name, text, hint)


async def last_hour(probe: Prober) -> Finding:
    """Count the rows of the last hour: proof that the permission is there."""
    answer = await probe.rows(probe.now_us - _HOUR_US)
    count = len(answer.rows)
    more = "at least " if count >= _PAGE else ""
    hint = "" if count else "no rows is normal for a quiet account"
    return probe.found(f"readable; {more}{count} rows in the last hour", hint)


async def inclusive_since(probe: Prober) -> Finding:
    """Find out if a row at exactly ``since`` is in the answer."""
    # `since` is sent in whole seconds, so no other row can lie exactly on it.
    whole = [t for t in probe.times(await probe.rows(probe.now_us - _HOUR_US)) if not t % SECOND_US]
    if not whole:
        return probe.found("`since`: no row of a whole second to try it with")
    again = probe.times(await probe.rows(whole[0]))
    word = "inclusive" if whole[0] in again else "exclusive"
    return probe.found(f"`since` is {word}", "nothing to set: the overlap covers both")


async def page_size(probe: Prober) -> Finding:
    """Find out which of ``limit`` and ``per_page`` counts."""
    since_us = probe.now_us - _YEAR_US
    # Crosswise, since equal numbers would not tell which of the two was obeyed.
    fewer = len((await probe.rows(since_us, per_page=1, limit=2)).rows)
    other = len((await probe.rows(since_us, per_page=2, limit=1)).rows)
    verdicts = {
        (1, 1): "the smaller of `limit` and `per_page` counts",
        (1, 2): "`per_page` counts, `limit` does not",
        (2, 1): "`limit` counts, `per_page` does not",
        (2, 2): "neither `limit` nor `per_page` cuts below 2 rows",
    }
    text = verdicts.get((fewer, other), "too few rows to see whether `limit` or `per_page` counts")
    return probe.found(text, "nothing to set: both are sent alike")


async def precision(probe: Prober) -> Finding:
    """Find out if times carry fractions of a second."""
    times = probe.times(await probe.rows(probe.now_us - _HOUR_US))
    fractions = sum(1 for time_us in times if time_us % SECOND_US)
    return probe.found(f"{fractions} of {len(times)} times carry fractions of a second")


async def reach(probe: Prober) -> Finding:
    """Find out how old the oldest row is that the API still shows."""
    times = probe.times(await probe.rows(probe.now_us - _YEAR_US))
    if not times:
        return probe.found("the history is empty")
    age = format_duration((probe.now_us - min(times)) // SECOND_US)
    return probe.found(
        f"the history reaches back {age}",
        "set `retention` to what your plan keeps; it decides when a gap is reported",
    )


async def without_ids(probe: Prober) -> Finding:
    """Find out what SCIM updates without ``idp_id`` give; ``probe`` has no ids."""
    try:
        answer = await probe.rows(probe.now_us - _YEAR_US)
    except TransientError as error:
        return probe.found(f"`idp_id` is required, and is always sent: without it, {error}")
    return probe.found(f"without `idp_id` {len(answer.rows)} rows are given")


LOGIN_PROBES: Sequence[Probe] = (last_hour, inclusive_since, page_size, precision, reach)
SCIM_PROBES: Sequence[Probe] = (last_hour, precision, reach)


async def run_probes(prober: Prober, probes: Sequence[Probe]) -> list[Finding]:
    """Run the probes in order; the first that fails is the last and becomes a fault."""
    findings: list[Finding] = []
    for probe in probes:
        try:
            findings.append(await probe(prober))
        except TransientError as error:
            # What refuses one probe refuses the others: one fault is enough.
            findings.append(Finding("fault", prober.endpoint.name, str(error), error.hint))
            break
    return findings


def login_prober(api: Api, now_us: int, extra: Params) -> Prober:
    """Return a prober of the authentication log."""
    return Prober(api, ACCESS_REQUESTS, "created_at", now_us, extra)


def scim_prober(api: Api, now_us: int, extra: Params) -> Prober:
    """Return a prober of the provisioning log; ``extra`` has the ids."""
    return Prober(api, SCIM_UPDATES, "logged_at", now_us, extra)


_ABSENT = (
    "logins that were refused before an identity was known, and service-token calls that were "
    "refused, may be absent from this endpoint: stream non_identity_logins has them"
)


async def diagnose(api: Api, config: AccountConfig) -> list[Finding]:
    """Check everything that this account's settings need; changes and stores nothing."""
    findings = [await _token(api)]
    try:
        now_us = await api.server_time_us()
    except TransientError as error:
        return [*findings, Finding("fault", config.api_url, str(error), error.hint)]
    logins, scim = config.streams.access_requests, config.streams.scim_updates
    if logins is not None:
        query = parameters("access_requests", logins.query)
        probe = login_prober(api, now_us, query)
        findings += await run_probes(probe, LOGIN_PROBES)
        findings.append(Finding("warning", "access_requests", _ABSENT))
        findings += _hidden("access_requests", logins.query)
    if scim is not None:
        findings += await _scim(api, scim, now_us)
    if config.streams.jit_requests is not None:
        findings.append(await _temporary(api, now_us))
    findings += await _audit(api, config.streams.account_audit, now_us)
    if config.streams.non_identity_logins is not None:
        return [*findings, await _groups(api, config, now_us)]
    return [*findings, *await _machines(api)]


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
    query = parameters("scim_updates", config.query)
    if ids:
        extra = [*(("idp_id", id_) for id_ in ids), *query]
        probe = scim_prober(api, now_us, extra)
        findings += await run_probes(probe, SCIM_PROBES)
    findings.append(await without_ids(scim_prober(api, now_us, query)))
    return findings + _hidden("scim_updates", config.query)


async def _temporary(api: Api, now_us: int) -> Finding:
    since = format_seconds(now_us - 24 * _HOUR_US)
    try:
        answer = await api.get(JIT_REQUESTS, [("since", since), ("per_page", str(_PAGE))])
    except TransientError as error:
        return Finding("fault", JIT_REQUESTS.name, str(error), error.hint)
    text = f"readable; {len(answer.rows)} requests for temporary access in the last day"
    return Finding("ok", JIT_REQUESTS.name, text)


_NOT_LOGGED = (
    "requests that only read, and changes that Cloudflare refused, are not in this log: it shows "
    "no failed attempt of an administrator"
)


async def _audit(api: Api, config: AccountAuditConfig | None, now_us: int) -> list[Finding]:
    if config is None:
        text = "off; the account's audit log says who changed applications, policies and tokens"
        hint = f"name it in `streams`; the token then needs `{ACCOUNT_AUDIT.permission}`"
        return [Finding("ok", ACCOUNT_AUDIT.name, text, hint)]
    day = Window(now_us - 24 * _HOUR_US, now_us)
    parameters = request_parameters(Place.first(day, ""), day, _PAGE)
    try:
        answer = await api.get(ACCOUNT_AUDIT, [*parameters, *filters(config)])
        unknown = await _unknown_categories(api, config)
    except TransientError as error:
        return [Finding("fault", ACCOUNT_AUDIT.name, str(error), error.hint)]
    kept = sum(map(concerns_access, answer.rows))
    more = "at least " if answer.cursor else ""
    text = f"readable; {more}{len(answer.rows)} rows in the last day"
    return [
        Finding("ok", ACCOUNT_AUDIT.name, f"{text}, {kept} of them concern Access or Zero Trust"),
        *unknown,
        Finding("warning", ACCOUNT_AUDIT.name, _NOT_LOGGED),
    ]


async def _groups(api: Api, config: AccountConfig, now_us: int) -> Finding:
    """Read the last hour of logins without identity: proof of the permission, and of sampling."""
    name, now, hour = NON_IDENTITY_LOGINS.name, now_us // SECOND_US, _HOUR_US // SECOND_US
    try:
        query = of_account(config.account_id, SETTINGS)
        node = await api.query(NON_IDENTITY_LOGINS, query, read_node)
        most = min(_PAGE, node.page_size)
        query = of_account(config.account_id, groups_query(Slice(now - hour, hour), node, most))
        groups = (await api.query(NON_IDENTITY_LOGINS, query, read_groups)).rows
    except TransientError as error:
        return Finding("fault", name, str(error), error.hint)
    more = "at least " if len(groups) >= most else ""
    sampled = sum(row.get("sampleInterval", 1) != 1 for row in groups)
    text = f"readable; {more}{len(groups)} groups in the last hour, {sampled} of them sampled"
    hint = "single logins are missing from what is sampled" if sampled else ""
    return Finding("ok", name, f"{text}; the plan keeps them {node.reach // 86_400} days", hint)


async def _machines(api: Api) -> list[Finding]:
    """Suggest the logins without identity to an account that has service tokens."""
    try:
        tokens = await api.get(SERVICE_TOKENS, [("page", "1"), ("per_page", str(_PAGE))])
    except TransientError:
        # Nobody needs this permission for anything else, so that its absence is no fault.
        return []
    if not tokens.rows:
        return []
    text = f"off; {len(tokens.rows)} service tokens exist, and most of their logins are here only"
    hint = f"name it in `streams`; the token then needs `{NON_IDENTITY_LOGINS.permission}`"
    return [Finding("ok", NON_IDENTITY_LOGINS.name, text, hint)]


async def _unknown_categories(api: Api, config: AccountAuditConfig) -> list[Finding]:
    """Return a fault if ``products`` names what Cloudflare does not know."""
    if isinstance(config.products, str):
        return []
    listed = [str(row.get("value")) for row in (await api.get(AUDIT_CATEGORIES)).rows]
    # Cloudflare does not mind the case of a category.
    known = {name.casefold() for name in listed}
    wrong = [name for name in config.products if name.casefold() not in known]
    if not wrong:
        return []
    text = f"`products` names {', '.join(wrong)}, which Cloudflare does not know"
    return [Finding("fault", ACCOUNT_AUDIT.name, text, f"there are {', '.join(sorted(listed))}")]


def _hidden(stream: str, query: Query) -> list[Finding]:
    return [Finding("warning", stream, text) for text in warnings(stream, query)]
