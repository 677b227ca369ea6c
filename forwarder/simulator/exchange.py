"""The way of one request through quota, faults, token and query, to an answer; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import orjson

from forwarder.simulator.answers import (
    NO_ROUTE,
    THROTTLED,
    Problem,
    bad_parameter,
    envelope,
    page_body,
    read_page,
)
from forwarder.simulator.cloud import Cloud
from forwarder.simulator.faults import (
    ANSWERLESS,
    BENDING,
    DAMAGING,
    REWRITING,
    SHAPING,
    Fault,
    Target,
)
from forwarder.simulator.feed import Feed, Page
from forwarder.simulator.names import ACCESS_REQUESTS, IDENTITY_PROVIDERS, STREAMS, VERIFY
from forwarder.simulator.query import (
    BadParameterError,
    Params,
    Query,
    access_filters,
    bend,
    choice,
    page_size,
    parse_window,
    positive,
    scim_filters,
)
from forwarder.simulator.settings import Token

DEFAULT_SIZES = {ACCESS_REQUESTS: 25}
DEFAULT_SIZE = 20
HTML_PAGE = b"""<!DOCTYPE html><html><head><title>api.cloudflare.com | error</title></head>
<body><h1>Error</h1><p>The web server reported a bad gateway error.</p></body></html>"""


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks."""

    endpoint: str
    account: str | None
    path: str
    params: Params
    headers: Mapping[str, str]

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
    feed: Feed | None = None
    page: Page | None = None
    """What the stream has shown once this reply is sent whole."""


def answer(cloud: Cloud, question: Question) -> Reply:
    """Return the reply to an admitted request, faults included."""
    fault = cloud.faults.first(question.target, ANSWERLESS)
    if fault is not None:
        return _replaced(fault)
    reply = _answered(cloud, question)
    damage = cloud.faults.first(question.target, DAMAGING)
    return reply if damage is None else replace(reply, damage=damage.kind, page=None)


def refuse(problem: Problem, **headers: str) -> Reply:
    """Return an error reply."""
    return Reply(problem.status, problem.body(), headers=headers)


def _replaced(fault: Fault) -> Reply:
    match fault.kind:
        case "throttled":
            wait = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
            return replace(refuse(THROTTLED), headers=wait)
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


def _answered(cloud: Cloud, question: Question) -> Reply:
    if question.endpoint not in _ANSWERS:
        return refuse(NO_ROUTE)
    token = cloud.doorkeeper.identify(question.headers)
    if isinstance(token, Problem):
        return refuse(token)
    refusal = cloud.doorkeeper.refusal(
        token, question.endpoint, question.account, question.path.partition("?")[0]
    )
    if refusal is not None:
        return refuse(refusal)
    try:
        return _ANSWERS[question.endpoint](cloud, question, token)
    except BadParameterError as error:
        return refuse(bad_parameter(str(error)))


def _verified(_cloud: Cloud, _question: Question, token: Token) -> Reply:
    result = {"id": "ed17574386854bf78a67040be0a770b0", "status": token.status}
    return Reply(body=envelope(orjson.dumps(result)))


def _providers(cloud: Cloud, question: Question, _token: Token) -> Reply:
    params = question.params
    only = choice(params, "scim_enabled", ("true", "false")) == "true"
    listed = cloud.directory(question.account or "").listed(scim_only=only)
    page = positive(params, "page") or 1
    size = page_size(params, cloud.settings, DEFAULT_SIZE)
    shown = [provider.as_json() for provider in listed[(page - 1) * size : page * size]]
    info = {"count": len(shown), "page": page, "per_page": size, "total_count": len(listed)}
    return Reply(body=envelope(orjson.dumps(shown), info))


def _rows(cloud: Cloud, question: Question, _token: Token) -> Reply:
    feed = cloud.feed(question.account or "", question.endpoint)
    query = _query(cloud, question)
    for fault in cloud.faults.all(question.target, REWRITING):
        feed.rewrite(fault)
    for fault in cloud.faults.all(question.target, BENDING):
        query = bend(query, fault)
    shapes = {fault.kind for fault in cloud.faults.all(question.target, SHAPING)}
    repeated = feed.last_page if "repeat_page" in shapes else None
    page = repeated or read_page(feed, query)
    body = page_body(feed, page, query, reversed_keys="shuffle_keys" in shapes)
    return Reply(body=body, feed=feed, page=page)


def _query(cloud: Cloud, question: Question) -> Query:
    params = question.params
    size = DEFAULT_SIZES.get(question.endpoint, DEFAULT_SIZE)
    query = parse_window(params, cloud.settings, size)
    if question.endpoint != ACCESS_REQUESTS:
        return replace(query, tests=scim_filters(params), idps=_idps(cloud, question))
    providers = cloud.directory(question.account or "").listed()
    tests = access_filters(params, {provider.id: provider.type for provider in providers})
    fields = params.get("fields")
    return replace(query, tests=tests, fields=tuple(fields.split(",")) if fields else None)


def _idps(cloud: Cloud, question: Question) -> frozenset[str] | None:
    asked = question.params.getall("idp_id", ())
    if not asked:
        if cloud.settings.require_idp_id:
            raise BadParameterError("idp_id is required")
        return None
    directory = cloud.directory(question.account or "")
    unknown = not cloud.settings.refuse_unknown_idp
    for idp_id in asked:
        if not directory.accepts(idp_id, unknown=unknown):
            raise BadParameterError(f"idp_id {idp_id} is not an identity provider")
    return frozenset(asked)


_ANSWERS: Mapping[str, Callable[[Cloud, Question, Token], Reply]] = {
    **dict.fromkeys(STREAMS, _rows),
    IDENTITY_PROVIDERS: _providers,
    VERIFY: _verified,
}
