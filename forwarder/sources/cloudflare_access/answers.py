"""An HTTP answer of Cloudflare's API becomes rows, or the error that says what to do.

Pure: bytes, status and headers in. Trusted is ``success: true`` with a list as ``result`` (or
null without errors), nothing else: not the status alone, not ``total_count``, not that JSON is
well formed.

    TransientError
    ├── ThrottledError               the token's quota is used up; the rate limiter knows how long
    └── NeedsOperatorError
        └── RequestRefusedError      wrong token, permission, account, parameter; ``about`` says

``TABLE`` says which answer becomes which error. Its codes and texts are those that Cloudflare
documents or that people have reported of these endpoints.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple, TypeAlias

import orjson

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.malformed_rows import RESULT, at, is_dense, repair, rewritten
from forwarder.transport.http import AnswerTooLargeError, parse_retry_after

Kind: TypeAlias = Literal["config", "throttled", "transient"]
Path: TypeAlias = Sequence[str | int]
About: TypeAlias = Literal[
    "token", "permission", "account", "access", "parameters", "address", "proxy", "service"
]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of the API: its name for people, its path and the permission it needs."""

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
ACCOUNT_AUDIT = Endpoint(
    "account_audit", "/accounts/{account_id}/logs/audit", "Account Settings Read"
)
JIT_REQUESTS = Endpoint(
    "jit_requests",
    "/accounts/{account_id}/access/logs/jit_requests",
    "Access: Audit Logs Read",
)
AUDIT_CATEGORIES = Endpoint(
    "account_audit", "/accounts/{account_id}/logs/audit/product_categories", "Account Settings Read"
)
SERVICE_TOKENS = Endpoint(
    "service_tokens",
    "/accounts/{account_id}/access/service_tokens",
    "Access: Service Tokens Read",
)
IDENTITY_PROVIDERS = Endpoint(
    "identity_providers",
    "/accounts/{account_id}/access/identity_providers",
    "Access: Organizations, Identity Providers, and Groups Read",
)
VERIFY_ACCOUNT_TOKEN = Endpoint("verify", "/accounts/{account_id}/tokens/verify", "")
VERIFY_USER_TOKEN = Endpoint("verify", "/user/tokens/verify", "")


class ThrottledError(TransientError):
    """The quota is used up; ``retry_after`` is how long the limiter now holds requests back."""


class RequestRefusedError(NeedsOperatorError):
    """Cloudflare refuses the request until a person changes something.

    ``about`` says what. Only a refusal about ``parameters`` may spare another request with the
    same token (a refused identity provider's id). ``status`` and ``codes`` are as received.
    """

    def __init__(
        self, message: str, *, about: About, status: int, codes: Sequence[int], hint: str
    ) -> None:
        """Keep what a caller decides by."""
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
    proxy: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table. An empty field fits everything; one of codes and pattern must fit."""

    kind: Kind
    about: About
    problem: str
    hint: str = ""
    statuses: Collection[int] = ()
    codes: Collection[int] = ()
    pattern: str = ""

    def fits(self, refusal: Refusal) -> bool:
        """Return True if this row decides about the answer."""
        if self.statuses and refusal.status not in self.statuses:
            return False
        if not self.codes and not self.pattern:
            return True
        return any(code in self.codes for code in refusal.codes) or (
            bool(self.pattern) and any(re.search(self.pattern, one) for one in refusal.messages)
        )


_ANSWERED = (200, *range(400, 500))
"""Statuses whose error codes count; above 499 something broke, and the body may be anything."""

_REPLACE = "put a valid API token into the settings or its file; `forwarder check --live` tries it"
_GRANT = "give the token `{permission}` for this account; a token made just now needs a minute"
STRANGE = (
    "the request is repeated; if it keeps failing check api_url and what is in between, such as a "
    "proxy, then ask Cloudflare with the cf-ray"
)
"""What to do about answers that Cloudflare's own servers should not give."""

# Read from the top; the first row that fits decides.
TABLE: tuple[Rule, ...] = (
    Rule("throttled", "service", "too many requests", statuses=(429,)),
    # Throttling has codes of its own, which count under any status.
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
        # 10000 reads `Authentication error`, and a valid token without the permission gets it.
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
    # From here on the status alone decides; a code or text above says more than it does.
    Rule("config", "token", "the credentials are refused", _REPLACE, (401,)),
    Rule("config", "permission", "access is forbidden", _GRANT, (403,)),
    Rule("config", "account", "nothing is found there", "check account_id, then api_url", (404,)),
    Rule("config", "proxy", "the proxy wants credentials", "check `proxy`", (407,)),
    # Before the rule for all of 4xx: these two pass by themselves.
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
        "the service is unavailable",
        "the request is repeated; https://www.cloudflarestatus.com lists outages",
        range(500, 600),
    ),
    Rule("transient", "service", "the answer does not hold what was requested", STRANGE),
)


def error_for(
    refusal: Refusal, endpoint: Endpoint, table: Sequence[Rule] = TABLE
) -> TransientError:
    """Return the exception for an answer without rows; it names no content of the answer."""
    rule = next(rule for rule in table if rule.fits(refusal))
    text = f"{endpoint.name}: {rule.problem} ({described(refusal)})"
    hint = rule.hint.format(permission=endpoint.permission or "the permission it needs")
    # Cloudflare puts a cf-ray into every answer; without one somebody in between has answered.
    if refusal.proxy and not refusal.ray:
        hint = f"the answer has no cf-ray, so look at the proxy first; {hint}".rstrip("; ")
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
        refusal.proxy and f"through the proxy {refusal.proxy}",
    )
    return ", ".join(part for part in parts if part)


_SUCCEEDED = range(200, 300)
# As Cloudflare writes it, and nothing longer: a proxy may reflect a token in any header.
_RAY = re.compile(r"[0-9a-f]{16}(-[A-Z]{3,4})?")
_MOST_CODES = 10


@dataclass(frozen=True, slots=True)
class Response:
    """An answer as it came over the wire, decompressed. Header names are in lower case.

    ``proxy`` names the proxy on the way, or is empty.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    proxy: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows, each a JSON object that orjson can write.

    ``server_time_us`` is the server's clock and ``per_page`` the page size that it says it used;
    each is None if the answer does not say. ``cursor`` leads to the next page of a log that has
    cursors, empty if there is none. ``malformed`` counts rows that were not readable as
    received; each of them is marked (see ``repair``). ``repaired`` is True if the answer was no
    clean JSON. ``ray`` is the answer's cf-ray. ``text`` is ``rows`` as orjson writes them, empty
    until somebody writes them. ``size`` is how many bytes the body had.
    """

    rows: list[dict[str, Any]] = field(repr=False)
    server_time_us: int | None
    per_page: int | None
    malformed: int = 0
    repaired: bool = False
    ray: str = ""
    text: bytes = field(default=b"", repr=False, compare=False)
    size: int = field(default=0, repr=False, compare=False)
    cursor: str = ""


def read_rows(
    response: Response, endpoint: Endpoint, now_us: int, *, smallest: bool = False
) -> Answer:
    """Return the rows of an answer.

    ``now_us`` is the local clock, which matters only for a ``Retry-After`` that is a date. Raises
    ``RequestRefusedError``, ``ThrottledError``, ``TransientError``, and ``AnswerTooLargeError``
    for more values than should be parsed at once, unless this is the ``smallest`` page there is.
    """
    opened = open_body(response, smallest=smallest)
    rows = _none_at_all(opened.envelope) if opened.rows is None else opened.rows
    if not granted(response, opened.envelope) or rows is None:
        raise error_for(refusal_of(response, opened.envelope, now_us), endpoint)
    info = opened.envelope.get("result_info")
    return Answer(
        rows=rows,
        server_time_us=server_time_us(response),
        per_page=_positive(info.get("per_page")) if isinstance(info, dict) else None,
        malformed=opened.malformed,
        repaired=opened.repaired,
        ray=ray_of(response),
        text=opened.text,
        size=len(response.body),
        cursor=_cursor(info),
    )


def read_object(response: Response, endpoint: Endpoint, now_us: int) -> dict[str, Any]:
    """Return a ``result`` that is one object; raises as ``read_rows`` does."""
    envelope = open_body(response).envelope
    result = envelope.get("result")
    if not granted(response, envelope) or not isinstance(result, dict):
        raise error_for(refusal_of(response, envelope, now_us), endpoint)
    return result


def read_time_us(response: Response, endpoint: Endpoint, now_us: int) -> int:
    """Return the server's clock from any answer of the API itself, errors included.

    Raises ``ThrottledError``, or ``TransientError`` when something on the way answered.
    """
    envelope = open_body(response).envelope
    time_us = server_time_us(response)
    if not granted(response, envelope):
        error = error_for(refusal_of(response, envelope, now_us), endpoint)
        # Every answer of the API has `success`; a page without it is a proxy's, as is its clock.
        if isinstance(error, ThrottledError) or "success" not in envelope:
            raise error
    if time_us is None:
        shown = described(refusal_of(response, envelope, now_us))
        raise TransientError(
            f"the answer does not say the time ({shown})",
            hint="something on the way removes the Date header; check api_url and proxy",
        )
    return time_us


def server_time_us(response: Response) -> int | None:
    """Return the answer's ``Date`` in microseconds since 1970, or None."""
    return _date_us(response.headers.get("date", ""))


def retry_after_seconds(response: Response, now_us: int) -> float | None:
    """Return how many seconds ``Retry-After`` asks to wait; a date counts from ``Date``."""
    answered_us = server_time_us(response)
    return parse_retry_after(
        response.headers.get("retry-after"), now_us if answered_us is None else answered_us
    )


class Opened(NamedTuple):
    """What a body holds; ``rows`` is None if it has no list of them; the rest as in ``Answer``."""

    envelope: Mapping[str, Any] = {}
    rows: list[dict[str, Any]] | None = None
    malformed: int = 0
    text: bytes = b""
    repaired: bool = False


def open_body(response: Response, path: Path = RESULT, *, smallest: bool = False) -> Opened:
    """Return what an answer holds, with its rows at ``path``; raises as ``read_rows`` does."""
    try:
        envelope = _loaded(response.body)
    except ValueError:
        return _opened_leniently(response, path, smallest=smallest)
    if not isinstance(envelope, dict):
        return Opened()
    rows = at(envelope, path)
    if not isinstance(rows, list):
        return Opened(envelope)
    text = rewritten(envelope, response.body, path) if set(map(type, rows)) <= {dict} else None
    if text is None:
        return _opened_leniently(response, path, smallest=smallest)
    return Opened(envelope, rows, text=text)


def _none_at_all(envelope: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return an empty list if the answer says that there is nothing, in the other way it has.

    Cloudflare's services send ``"result": null`` for an empty list. It counts only beside
    ``success: true`` and no errors.
    """
    nothing = "result" in envelope and envelope["result"] is None
    return [] if nothing and not envelope.get("errors") else None


def _loaded(body: bytes) -> Any:
    """Return the JSON value; raises ``ValueError`` for what is none, or should not be parsed."""
    if is_dense(body):
        raise ValueError
    return orjson.loads(body)


def _opened_leniently(response: Response, path: Path, *, smallest: bool) -> Opened:
    # A body under an error status is a gateway's page more often than rows: not worth the work.
    if response.status not in _SUCCEEDED:
        return Opened()
    if is_dense(response.body) and not smallest:
        raise AnswerTooLargeError("the answer holds more values than are parsed at once")
    try:
        return Opened(*repair(response.body, path), repaired=True)
    except TransientError as error:
        refusal = Refusal(response.status, ray=ray_of(response), proxy=response.proxy)
        raise TransientError(f"{error} ({described(refusal)})", hint=STRANGE) from error


def granted(response: Response, envelope: Mapping[str, Any]) -> bool:
    """Return True if status and envelope of an answer both say that the request succeeded."""
    return response.status in _SUCCEEDED and envelope.get("success") is True


def refusal_of(response: Response, envelope: Mapping[str, Any], now_us: int) -> Refusal:
    """Return what an answer without rows says; ``envelope`` is what it holds beside them."""
    errors = list(_errors(envelope.get("errors")))
    codes = (error.get("code") for error in errors)
    numbers = (code for code in codes if isinstance(code, int) and not isinstance(code, bool))
    messages = (error.get("message") for error in errors)
    return Refusal(
        status=response.status,
        codes=tuple(dict.fromkeys(numbers))[:_MOST_CODES],
        messages=tuple(one for one in messages if isinstance(one, str)),
        ray=ray_of(response),
        retry_after=retry_after_seconds(response, now_us),
        proxy=response.proxy,
    )


def _errors(found: Any) -> Iterator[Mapping[str, Any]]:
    """Give each error and then its chain; ignore whatever has another form."""
    for error in _objects(found):
        yield error
        yield from _objects(error.get("error_chain"))


def _objects(found: Any) -> list[Mapping[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def ray_of(response: Response) -> str:
    """Return the answer's cf-ray, or nothing."""
    text = response.headers.get("cf-ray", "")
    return text if _RAY.fullmatch(text) else ""


def _date_us(text: str) -> int | None:
    try:
        moment = parsedate_to_datetime(text)
        # A zone of -0000 is parsed as none, and would then be taken for local time.
        return int(moment.timestamp()) * 1_000_000 if moment.tzinfo else None
    except (ValueError, TypeError, OverflowError):
        return None


def _cursor(info: Any) -> str:
    """Return the next cursor; documents and Cloudflare's own libraries disagree where it is."""
    if not isinstance(info, dict):
        return ""
    after = info.get("cursors")
    found = info.get("cursor") or (after.get("after") if isinstance(after, dict) else None)
    return found if isinstance(found, str) else ""


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
