"""The way of one request: quota, faults, token, query, and how the reply gets onto the wire.

`answer` decides without I/O; the rest sends what it decided, whole or harmed.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from itertools import count
from socket import SO_LINGER, SOL_SOCKET

import orjson
from aiohttp import hdrs, web

from forwarder.simulator.access import NO_ROUTE, THROTTLED, Problem, bad_parameter
from forwarder.simulator.analytics import (
    NODE,
    Analytics,
    Field,
    QueryError,
    answered,
    error_body,
    query_of,
)
from forwarder.simulator.audit_log import (
    audit_query,
    categories_body,
    cursored,
    read_audit_page,
    result_info,
    strikes,
)
from forwarder.simulator.cloud import Cloud
from forwarder.simulator.control import control_routes
from forwarder.simulator.faults import (
    ACCESS_REQUESTS,
    ACCOUNT_AUDIT,
    ANSWERLESS,
    BENDING,
    DAMAGING,
    DELAYING,
    GROUPING,
    HEADING,
    IDENTITY_PROVIDERS,
    JIT_REQUESTS,
    LEADING,
    LOGPUSH_JOBS,
    NON_IDENTITY_LOGINS,
    REWRITING,
    SCIM_UPDATES,
    SERVICE_TOKENS,
    SHAPING,
    STREAMS,
    VERIFY,
    Fault,
    Target,
)
from forwarder.simulator.feed import Feed
from forwarder.simulator.query import (
    BadParameterError,
    Params,
    Query,
    access_filters,
    bend,
    choice,
    envelope,
    page_body,
    page_size,
    parse_window,
    positive,
    read_page,
    scim_filters,
)
from forwarder.simulator.settings import Token

ROUTES = {
    "/client/v4/accounts/{account}/access/logs/access_requests": ACCESS_REQUESTS,
    "/client/v4/accounts/{account}/access/logs/scim/updates": SCIM_UPDATES,
    "/client/v4/accounts/{account}/logs/audit": ACCOUNT_AUDIT,
    "/client/v4/accounts/{account}/logs/audit/product_categories": ACCOUNT_AUDIT,
    "/client/v4/accounts/{account}/access/logs/jit_requests": JIT_REQUESTS,
    "/client/v4/accounts/{account}/access/logs/jit_requests/{name}": JIT_REQUESTS,
    "/client/v4/accounts/{account}/access/service_tokens": SERVICE_TOKENS,
    "/client/v4/accounts/{account}/access/identity_providers": IDENTITY_PROVIDERS,
    "/client/v4/accounts/{account}/logpush/jobs": LOGPUSH_JOBS,
    "/client/v4/zones/{zone}/logpush/jobs": LOGPUSH_JOBS,
    "/client/v4/accounts/{account}/tokens/verify": VERIFY,
    "/client/v4/user/tokens/verify": VERIFY,
}
QUERIES = "/client/v4/graphql"
FIRST_RAY = 0x8A1C_5E2F_0000_0000
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

DEFAULT_SIZES = {ACCESS_REQUESTS: 25}
DEFAULT_SIZE = 20
HTML_PAGE = b"""<!DOCTYPE html><html><head><title>api.cloudflare.com | error</title></head>
<body><h1>Error</h1><p>The web server reported a bad gateway error.</p></body></html>"""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request to the API, as far as the answer depends on it."""

    endpoint: str
    account: str | None
    path: str
    params: Params
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def target(self) -> Target:
        """What faults are matched against."""
        return Target(self.endpoint, self.account, self.path)


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent back; `silence` and `damage` name a fault of that kind."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    silence: str | None = None
    damage: str | None = None
    sent: Callable[[float], None] | None = None
    """Called with the time (epoch seconds) once this reply was sent whole."""


def answer(cloud: Cloud, api_request: ApiRequest) -> Reply:
    """Return the reply to an admitted request, faults included."""
    fault = cloud.faults.first(api_request.target, ANSWERLESS)
    if fault is not None:
        return _replaced(fault)
    reply = _answered(cloud, api_request)
    damage = cloud.faults.first(api_request.target, DAMAGING)
    return reply if damage is None else replace(reply, damage=damage.kind, sent=None)


def refuse(problem: Problem, headers: Mapping[str, str] | None = None) -> Reply:
    """Return an error reply."""
    return Reply(problem.status, problem.body(), headers=headers or {})


def _replaced(fault: Fault) -> Reply:
    match fault.kind:
        case "throttled":
            wait = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
            return refuse(THROTTLED, wait)
        case "html":
            page = fault.body.encode() or HTML_PAGE
            return Reply(fault.status, page, content_type="text/html")
        case "error" | "unsuccessful":
            status = 200 if fault.kind == "unsuccessful" else fault.status
            return refuse(Problem(status, fault.code, fault.message))
        case "body":
            return Reply(fault.status, fault.body.encode())
        case "redirect":
            return Reply(302, headers={"Location": fault.body})
        case _:
            return Reply(silence=fault.kind)


def _answered(cloud: Cloud, api_request: ApiRequest) -> Reply:
    # Cloudflare routes before it authenticates.
    if api_request.endpoint not in {*_ANSWERS, NON_IDENTITY_LOGINS}:
        return refuse(NO_ROUTE)
    token = cloud.authenticator.identify(api_request.headers)
    if isinstance(token, Problem):
        return refuse(token)
    if api_request.endpoint == NON_IDENTITY_LOGINS:
        return _queried(cloud, api_request, token)
    refusal = cloud.authenticator.refusal(
        token, api_request.endpoint, api_request.account, api_request.path.partition("?")[0]
    )
    if refusal is not None:
        return refuse(refusal)
    try:
        return _ANSWERS[api_request.endpoint](cloud, api_request, token)
    except BadParameterError as error:
        return refuse(bad_parameter(str(error)))


def _verified(_cloud: Cloud, _request: ApiRequest, token: Token) -> Reply:
    result = {"id": "ed17574386854bf78a67040be0a770b0", "status": token.status}
    result |= {"expires_on": token.expires_on} if token.expires_on else {}
    return Reply(body=envelope(orjson.dumps(result)))


def _providers(cloud: Cloud, api_request: ApiRequest, _token: Token) -> Reply:
    params = api_request.params
    only = choice(params, "scim_enabled", ("true", "false")) == "true"
    listed = cloud.directory(api_request.account or "").listed(scim_only=only)
    page = positive(params, "page") or 1
    size = page_size(params, cloud.settings, DEFAULT_SIZE)
    shown = [provider.as_json() for provider in listed[(page - 1) * size : page * size]]
    info = {"count": len(shown), "page": page, "per_page": size, "total_count": len(listed)}
    return Reply(body=envelope(orjson.dumps(shown), info))


def _audited(cloud: Cloud, api_request: ApiRequest, _token: Token) -> Reply:
    if api_request.path.partition("?")[0].endswith("/product_categories"):
        return Reply(body=envelope(categories_body()))
    params, kinds = api_request.params, strikes(cloud.faults.all(api_request.target, LEADING))
    if "forget_cursors" in kinds:
        cloud.cursors.forget()
    asked = params.get("cursor")
    cut = cloud.cursors.find(asked)
    feed, query = _harmed(cloud, api_request, audit_query(params))
    found, following = read_audit_page(feed, query, cut)
    page, cursor = cursored(cloud.cursors, asked, found, following, kinds)
    body = b"[" + b",".join(feed.store.served(page.numbers)) + b"]"
    return Reply(
        body=envelope(body, result_info(page, cursor, kinds)),
        sent=lambda now: feed.sent(page, now),
    )


def _temporary(cloud: Cloud, api_request: ApiRequest, _token: Token) -> Reply:
    board, now = cloud.board(api_request.account or ""), cloud.clock.now()
    name = api_request.path.partition("?")[0].rpartition("/jit_requests")[2].lstrip("/")
    if not name:
        return Reply(body=envelope(board.listed(api_request.params, now)))
    detail = board.detail(name, now)
    if detail is None:
        return refuse(NO_ROUTE)
    return Reply(body=envelope(orjson.dumps(detail)), sent=lambda _: board.note(detail))


def _tokens(cloud: Cloud, api_request: ApiRequest, _token: Token) -> Reply:
    company = cloud.company(api_request.account or "")
    listed = [{"id": one.partition(".")[0], "client_id": one} for one in company.service_tokens]
    return Reply(body=envelope(orjson.dumps(listed)))


def _jobs(cloud: Cloud, api_request: ApiRequest, _token: Token) -> Reply:
    owner = api_request.path.split("/")[4]
    return Reply(body=envelope(orjson.dumps([asdict(job) for job in cloud.jobs(owner)])))


def _queried(cloud: Cloud, api_request: ApiRequest, token: Token) -> Reply:
    """Answer a query of GraphQL: an error has status 200 and stands in the answer."""
    try:
        accounts = query_of(api_request.body).one("viewer").one("accounts")
        account = str(accounts.args.get("filter", {}).get("accountTag"))
        refused = cloud.authenticator.refusal(token, api_request.endpoint, account, QUERIES)
        if refused is not None:
            return Reply(body=error_body("not authorized for that account", "authz"))
        return _selected(cloud, api_request.target, accounts.selected[0], cloud.analytics(account))
    except QueryError as error:
        return Reply(body=error_body(str(error)))


def _selected(cloud: Cloud, target: Target, wanted: Field, analytics: Analytics) -> Reply:
    faults = cloud.faults.all(target, GROUPING)
    lacking = frozenset(fault.key for fault in faults if fault.kind == "lacking")
    if wanted.name == "settings":
        told = analytics.settings(lacking)
        content = {one.name: told[one.name] for one in wanted.one(NODE).selected}
        return Reply(
            body=_viewed(b'{"settings":{"%b":%b}}' % (NODE.encode(), orjson.dumps(content)))
        )
    if wanted.name != NODE:
        raise QueryError(f'unknown field "{wanted.name}"')
    for fault in cloud.faults.all(target, REWRITING):
        # More logins of a group are what amends it.
        (analytics.recount if fault.kind == "amend" else analytics.feed.rewrite)(fault)
    every = max([fault.count for fault in faults if fault.kind == "sampled"], default=1)
    groups = analytics.groups(wanted, cloud.clock.now(), lacking, every)
    body = _viewed(b'{"%b":%b}' % (NODE.encode(), answered(groups)))
    return Reply(body=body, sent=lambda _: analytics.note(groups))


def _viewed(account: bytes) -> bytes:
    return b'{"data":{"viewer":{"accounts":[%b]}},"errors":null}' % account


def _harmed(cloud: Cloud, api_request: ApiRequest, query: Query) -> tuple[Feed, Query]:
    """Return the feed that a request reads and the query, after the faults that change either."""
    feed = cloud.feed(api_request.account or "", api_request.endpoint)
    # Rewritten first, so that this very answer shows the new rows.
    for fault in cloud.faults.all(api_request.target, REWRITING):
        feed.rewrite(fault)
    for fault in cloud.faults.all(api_request.target, BENDING):
        query = bend(query, fault)
    return feed, query


def _rows(cloud: Cloud, api_request: ApiRequest, _token: Token) -> Reply:
    feed, query = _harmed(cloud, api_request, _query(cloud, api_request))
    shapes = {fault.kind for fault in cloud.faults.all(api_request.target, SHAPING)}
    repeated = feed.last_page if "repeat_page" in shapes else None
    page = repeated or read_page(feed, query)
    body = page_body(feed, page, query, reversed_keys="shuffle_keys" in shapes)
    return Reply(body=body, sent=lambda now: feed.sent(page, now))


def _query(cloud: Cloud, api_request: ApiRequest) -> Query:
    params = api_request.params
    size = DEFAULT_SIZES.get(api_request.endpoint, DEFAULT_SIZE)
    query = parse_window(params, cloud.settings, size)
    if api_request.endpoint != ACCESS_REQUESTS:
        return replace(query, tests=scim_filters(params), idps=_idps(cloud, api_request))
    providers = cloud.directory(api_request.account or "").listed()
    tests = access_filters(params, {provider.id: provider.type for provider in providers})
    fields = params.get("fields")
    return replace(query, tests=tests, fields=tuple(fields.split(",")) if fields else None)


def _idps(cloud: Cloud, api_request: ApiRequest) -> frozenset[str] | None:
    asked = api_request.params.getall("idp_id", ())
    if not asked:
        if cloud.settings.require_idp_id:
            raise BadParameterError("idp_id is required")
        return None
    directory = cloud.directory(api_request.account or "")
    unknown = not cloud.settings.refuse_unknown_idp
    for idp_id in asked:
        if not directory.accepts(idp_id, unknown=unknown):
            raise BadParameterError(f"idp_id {idp_id} is not an identity provider")
    return frozenset(asked)


_ANSWERS: Mapping[str, Callable[[Cloud, ApiRequest, Token], Reply]] = {
    **dict.fromkeys(STREAMS, _rows),
    ACCOUNT_AUDIT: _audited,
    JIT_REQUESTS: _temporary,
    SERVICE_TOKENS: _tokens,
    IDENTITY_PROVIDERS: _providers,
    LOGPUSH_JOBS: _jobs,
    VERIFY: _verified,
}


def build_app(cloud: Cloud) -> web.Application:
    """Return the application that serves the API of a cloud and its control requests."""
    app = web.Application()
    rays = count(FIRST_RAY)
    app.add_routes(control_routes(cloud))
    for path, endpoint in ROUTES.items():
        app.router.add_get(path, _handler(cloud, endpoint, rays), allow_head=False)
    app.router.add_post(QUERIES, _handler(cloud, NON_IDENTITY_LOGINS, rays))
    # Unknown paths are answered in the API's own envelope, too.
    app.router.add_route("*", "/{rest:.*}", _handler(cloud, "unknown", rays))
    app.on_response_prepare.append(_drop_absent_date)
    return app


def _handler(cloud: Cloud, endpoint: str, rays: count[int]) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        now = cloud.advance()
        api_request = ApiRequest(
            endpoint, request.match_info.get("account"), request.path_qs, request.query,
            request.headers, await request.read(),
        )  # fmt: skip
        limiter = cloud.query_limiter if endpoint == NON_IDENTITY_LOGINS else cloud.limiter
        quota = limiter.charge(_client(request), now)
        admitted = quota is None or quota.allowed
        reply = answer(cloud, api_request) if admitted else refuse(THROTTLED)
        headers = {
            "cf-ray": f"{next(rays):016x}-AMS",
            hdrs.DATE: _date(cloud, api_request.target, now),
            **limiter.headers(quota),
            **reply.headers,
        }
        # Noted before the delay: a client that gives up has still used its quota.
        cloud.requests.note(now, endpoint, request.path_qs, 0 if reply.silence else reply.status)
        for fault in cloud.faults.all(api_request.target, DELAYING) if admitted else ():
            await _wait(cloud, fault.seconds)
        return await _send(cloud, request, reply, headers)

    return handle


def _client(request: web.Request) -> str:
    """Return what the quota is counted by: the credentials, or the address without any."""
    headers = request.headers
    # Per token, as documented: two clients with one token share one quota.
    return headers.get("Authorization") or headers.get("X-Auth-Key") or request.remote or ""


def _date(cloud: Cloud, target: Target, now: float) -> str:
    for fault in cloud.faults.all(target, HEADING):
        if fault.kind == "no_date":
            return ""
        now += fault.seconds
    return formatdate(now, usegmt=True)


async def _drop_absent_date(_request: web.Request, response: web.StreamResponse) -> None:
    # aiohttp fills in a missing `Date`, so an absent one is set empty and removed here.
    if not response.headers.get(hdrs.DATE):
        response.headers.popall(hdrs.DATE, None)


async def _wait(cloud: Cloud, seconds: float | None) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(cloud.closing.wait(), seconds)


async def _send(
    cloud: Cloud, request: web.Request, reply: Reply, headers: dict[str, str]
) -> web.StreamResponse:
    if reply.silence is not None:
        return await _keep_silent(cloud, request, reply.silence)
    if reply.damage == "cut_off":
        return await _cut_off(request, reply, headers)
    body = reply.body[: len(reply.body) // 2] if reply.damage == "truncated" else reply.body
    response = web.Response(
        status=reply.status, body=body, headers=headers, content_type=reply.content_type
    )
    with suppress(ConnectionError):
        await response.prepare(request)
        await response.write_eof()
        # Only now: the oracle counts what a client can have received in full.
        if reply.sent is not None:
            reply.sent(cloud.clock.now())
    return response


async def _keep_silent(cloud: Cloud, request: web.Request, how: str) -> web.StreamResponse:
    transport = request.transport
    if how == "hang":
        await _wait(cloud, None)
    elif transport is not None:
        # With a linger time of zero, closing sends RST instead of FIN.
        transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, RESET_ON_CLOSE)
    if transport is not None:
        transport.abort()
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def _cut_off(
    request: web.Request, reply: Reply, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=headers)
    response.content_type = reply.content_type
    # The whole length is promised, or the client could take the half for all.
    response.content_length = len(reply.body)
    with suppress(ConnectionError):
        await response.prepare(request)
        await response.write(reply.body[: len(reply.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
