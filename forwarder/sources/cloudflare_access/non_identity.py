"""Logins without identity: what service tokens, certificates and nobody at all asked Access for.

Cloudflare keeps them for its analytics only, which is not a log. An answer of GraphQL groups logins
that are alike, and ``count`` says how many they stand for; where there are many Cloudflare samples,
and ``sampleInterval`` says of how many logins one was kept. There are no pages: an answer that is
full is thrown away, and half of its time is asked for.

    Slice     a query: which seconds are asked for                               (pure: ``advance``)
    Node      what the account's plan allows of the node, asked for once a process

A group is known by everything that its logins have in common, so its count may differ later: the
first version is delivered, as of every row with an id of its own, and later ones are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar

from forwarder.core.contracts import Lost, Page, Window
from forwarder.core.errors import NeedsOperatorError
from forwarder.core.identity import dumps
from forwarder.core.malformed_rows import at
from forwarder.core.schema import MALFORMED_KEY
from forwarder.core.source_contract import Parts, Purpose
from forwarder.core.timing import format_seconds
from forwarder.sources.cloudflare_access.account import AccountConfig, NonIdentityLoginsConfig
from forwarder.sources.cloudflare_access.answers import (
    TABLE,
    Answer,
    Endpoint,
    RequestRefusedError,
    Response,
    Rule,
    error_for,
    open_body,
    ray_of,
    refusal_of,
    server_time_us,
)
from forwarder.sources.cloudflare_access.api import Api, off_loop
from forwarder.sources.cloudflare_access.logs import PageMaker
from forwarder.sources.cloudflare_access.walk import SECOND_US, UNREADABLE
from forwarder.transport.http import AnswerTooLargeError

NON_IDENTITY_LOGINS = Endpoint("non_identity_logins", "/graphql", "Account Analytics Read")
GROUPS_RETENTION = 90 * 86_400.0
"""How long Cloudflare keeps them at most, in seconds; the plan may say less (``Node.reach``)."""
DIMENSIONS = (
    *("datetime", "cfRayId", "appId", "isSuccessfulLogin", "identityProvider", "serviceTokenId"),
    *("ipAddress", "country", "userUuid", "approvingPolicyId", "mtlsStatus", "mtlsCommonName"),
    *("mtlsCertSerialId", "deviceId", "hasExistingJWT", "hasWarpEnabled", "hasGatewayEnabled"),
)
"""What is asked for of a group, as far as the plan has it; the most important comes first."""
MEASURES = frozenset({"count", "sampleInterval"})
"""Keys of a row that say how often, and not what: no part of its identity."""

_GROUPS = "accessLoginRequestsAdaptiveGroups"
_ACCOUNT = ("data", "viewer", "accounts", 0)
_OLD = "older_than_retention"
# The wider a query is, the more Cloudflare samples.
_WIDEST = 3600
# What is just within reach when it is decided is out of reach when the query arrives.
_MARGIN = 60
_SPARSE = 4
"""A quarter of what an answer may hold: twice as much time will fit."""

_RULES = (
    Rule(
        "throttled",
        "service",
        "the budget of GraphQL queries is used up",
        pattern=r"(?i)budget depleted|quota exceeded|rate limit",
    ),
    Rule(
        "config",
        "permission",
        "the token may not read this of the account",
        "give the token `{permission}` for this account; a token made just now needs a minute",
        pattern=r"(?i)not authori[sz]ed|authentication error|permission",
    ),
    Rule(
        "config",
        "parameters",
        "the query is refused",
        "the plan's limits are read again; if the error stays, report it with the cf-ray",
        pattern=r"(?i)unknown (field|arg)|access to the path|cannot request data|can(no|')t be more"
        r"|must be positive|not available for your plan|parsing args|selections",
    ),
    *TABLE,
)
# Cloudflare's words for an answer that would have been too much work.
_too_wide = Rule("transient", "service", "", pattern=r"(?i)reduced time period|range is too large")


def read_groups(response: Response, endpoint: Endpoint, now_us: int) -> Answer:
    """Return the groups of an answer, each as one flat row.

    Raises as ``answers.read_rows``; ``AnswerTooLargeError`` where less time must be asked for. An
    answer with any error in it has no rows, whatever its status is and whatever else it holds.
    """
    opened = open_body(response, (*_ACCOUNT, _GROUPS))
    _refuse(response, opened.envelope, endpoint, now_us, granted=opened.rows is not None)
    return Answer(
        rows=[flat(group) for group in opened.rows or ()],
        server_time_us=server_time_us(response),
        per_page=None,
        malformed=opened.malformed,
        ray=ray_of(response),
        size=len(response.body),
    )


def _refuse(
    response: Response,
    envelope: Mapping[str, Any],
    endpoint: Endpoint,
    now_us: int,
    *,
    granted: bool,
) -> None:
    # Errors beside rows say that rows are missing, and GraphQL sends both with status 200.
    if granted and response.status == 200 and not envelope.get("errors"):  # noqa: PLR2004
        return
    refusal = refusal_of(response, envelope, now_us)
    if _too_wide.fits(refusal):
        raise AnswerTooLargeError("Cloudflare asks for a shorter time range")
    raise error_for(refusal, endpoint, _RULES)


def flat(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group as a row: its dimensions beside ``count`` and ``sampleInterval``."""
    dimensions, average = group.get("dimensions"), group.get("avg")
    row = dict(dimensions) if isinstance(dimensions, dict) else {}
    if isinstance(average, dict):
        row |= average
    taken = [key for key in ("dimensions", "avg") if isinstance(group.get(key), dict)]
    return row | {key: value for key, value in group.items() if key not in taken}


def native_id(row: Mapping[str, Any]) -> str:
    """Return what distinguishes a group, or an empty text for a row that is not a group."""
    if MALFORMED_KEY in row or not isinstance(row.get("datetime"), str):
        return ""
    return dumps([(key, row[key]) for key in sorted(row) if key not in MEASURES]).decode()


@dataclass(frozen=True, slots=True)
class Node:
    """What a plan allows: rows and seconds of a query, seconds back in time, what may be asked."""

    page_size: int
    duration: int
    reach: int
    fields: frozenset[str]
    most_fields: int

    @property
    def selection(self) -> str:
        """Return what is asked for of a group; everything if the plan does not say what it has."""
        sampled = "avg_sampleInterval" in self.fields or not self.fields
        room = max(1, self.most_fields - len(MEASURES))
        wanted = [name for name in DIMENSIONS if self._has(name)][:room]
        average = " avg{sampleInterval}" if sampled else ""
        return f"count{average} dimensions{{{' '.join(wanted)}}}"

    def _has(self, name: str) -> bool:
        return not self.fields or f"dimensions_{name}" in self.fields or name == "datetime"


SETTINGS = (
    f"settings{{{_GROUPS}{{enabled maxDuration maxPageSize maxNumberOfFields notOlderThan "
    "availableFields}}"
)
"""Asks for what ``read_node`` reads."""


def read_node(response: Response, endpoint: Endpoint, now_us: int) -> Node:
    """Return what the plan allows; raises as ``read_groups``."""
    envelope = open_body(response).envelope
    told = at(envelope, (*_ACCOUNT, "settings", _GROUPS))
    _refuse(response, envelope, endpoint, now_us, granted=isinstance(told, dict))
    if told.get("enabled") is False:
        text = f"{endpoint.name}: the account's plan has no analytics of logins"
        raise NeedsOperatorError(text, hint="leave the stream out of `streams`")
    told_fields = told.get("availableFields")
    fields = told_fields if isinstance(told_fields, list) else []
    return Node(
        page_size=_number(told.get("maxPageSize"), 10_000),
        duration=_number(told.get("maxDuration"), _WIDEST),
        reach=_number(told.get("notOlderThan"), round(GROUPS_RETENTION)),
        fields=frozenset(one for one in fields if isinstance(one, str)),
        most_fields=_number(told.get("maxNumberOfFields"), 30),
    )


def _number(value: Any, otherwise: int) -> int:
    return value if type(value) is int and value > 0 else otherwise


@dataclass(frozen=True, slots=True)
class Slice:
    """The next query of a window, in seconds since 1970; kept as a position.

    It asks for ``width`` seconds from ``since`` on.
    """

    since: int
    width: int

    @classmethod
    def of(cls, position: Any, window: Window) -> Slice:
        """Return the slice of a position; the window's first for no position, or a strange one."""
        kept = position if isinstance(position, dict) else {}
        since, width = kept.get("since"), kept.get("width")
        if type(since) is int and type(width) is int and width > 0:
            return cls(since, width)
        return cls(window.since_us // SECOND_US, _WIDEST)


def advance(here: Slice, end: int, *, rows: int | None, most: int) -> tuple[Slice | None, bool]:
    """Return the next slice, None at ``end`` (seconds), and whether the rows of this one count.

    ``rows`` is how many came of ``most``, None if the answer was too large to be read. They do not
    count if time can be halved: a group may be cut off anywhere, and a narrower query samples less.
    """
    full = rows is None or rows >= most
    if full and here.width > 1:
        return Slice(here.since, here.width // 2), False
    behind = here.since + here.width
    grows = rows is not None and rows * _SPARSE < most
    width = min(2 * here.width, _WIDEST) if grows else here.width
    return (Slice(behind, width) if behind < end else None), True


class NonIdentityLogins:
    """The logins without identity of one account; implements ``core.source_contract.Source``."""

    stream: ClassVar[str] = NON_IDENTITY_LOGINS.name

    def __init__(self, api: Api, account: AccountConfig, config: NonIdentityLoginsConfig) -> None:
        """Do no I/O."""
        self._api = api
        self._account = account.account_id
        self._size = config.page_size
        self._pages = PageMaker(account.account_id, self.stream, "datetime", None, native_id)
        self._node: Node | None = None

    async def fetch(
        self,
        window: Window,
        position: Any | None,
        *,
        parts: Sequence[str] = (),  # noqa: ARG002 - this stream has none
        purpose: Purpose = Purpose.LIVE,
    ) -> Page:
        """Read the next slice of the window."""
        here, end = Slice.of(position, window), window.until_us // SECOND_US + 1
        ask = partial(self._ask, purpose=purpose, urgency=here.since + GROUPS_RETENTION)
        node = self._node = self._node or await ask(SETTINGS, read_node)
        now_us = self._api.believed_time_us() or 0
        here, lost = _within(here, end, node, now_us // SECOND_US)
        if here.since >= end:
            return await self._page(Answer([], None, None), None, lost)
        most = min(self._size, node.page_size)
        try:
            answer = await ask(groups_query(here, node, most), read_groups)
        except AnswerTooLargeError:
            following, counts = advance(here, end, rows=None, most=most)
            if counts:
                raise
            return await self._page(Answer([], None, None), following, lost)
        following, counts = advance(here, end, rows=len(answer.rows), most=most)
        if not counts:
            # Not delivered at all: for half of the time the same groups may have finer counts.
            answer = replace(answer, rows=[], malformed=0)
        elif len(answer.rows) >= most:
            detail = f"more than {most} groups of logins without identity in one second"
            lost.append(_lost(UNREADABLE, here.since, here.since + 1, detail))
        return await self._page(answer, following, lost)

    async def parts(self, memory: Any | None, now_us: int) -> Parts:  # noqa: ARG002 - the contract's
        """Return no parts: this stream is read as a whole."""
        return Parts()

    async def server_time_us(self) -> int:
        """Return Cloudflare's clock in microseconds since 1970."""
        return await self._api.server_time_us()

    async def _ask(self, text: str, read: Any, purpose: Purpose, urgency: float) -> Any:
        try:
            query = of_account(self._account, text)
            return await self._api.query(
                NON_IDENTITY_LOGINS, query, read, purpose=purpose, urgency=urgency
            )
        except RequestRefusedError as error:
            if error.about == "parameters":
                # The plan may have changed: the next call reads its limits again.
                self._node = None
            raise

    async def _page(self, answer: Answer, following: Slice | None, lost: Sequence[Lost]) -> Page:
        rows = answer.rows
        records = await off_loop(answer.size, lambda: self._pages.records(rows))
        return self._pages.page(
            answer,
            records,
            following and asdict(following),
            lost,
            following.since * SECOND_US if following else None,
            await off_loop(answer.size, lambda: self._pages.contents(rows)),
        )


def _within(here: Slice, end: int, node: Node, now: int) -> tuple[Slice, list[Lost]]:
    """Return the slice within what the plan allows at ``now``, and what is too old for it."""
    lost = list[Lost]()
    reached = min(now - node.reach + _MARGIN, end)
    if here.since < reached:
        detail = f"the account's plan shows nothing that is older than {node.reach} s"
        lost.append(_lost(_OLD, here.since, reached, detail))
        here = Slice(reached, here.width)
    return Slice(here.since, min(here.width, node.duration, end - here.since)), lost


def of_account(account_id: str, inner: str) -> str:
    """Return a query for something of one account."""
    return f'{{viewer{{accounts(filter:{{accountTag:"{account_id}"}}){{{inner}}}}}}}'


def groups_query(here: Slice, node: Node, most: int) -> str:
    """Return what asks for one slice: groups without identity only, oldest first."""
    # Half open, in whole seconds as the log has them: each group is in one slice only.
    since, until = (
        format_seconds(second * SECOND_US) for second in (here.since, here.since + here.width)
    )
    return (
        f"{_GROUPS}(limit:{most},orderBy:[datetime_ASC],"
        f'filter:{{datetime_geq:"{since}",datetime_lt:"{until}",identityProvider:"nonidentity"}})'
        f"{{{node.selection}}}"
    )


def _lost(reason: str, since: int, until: int, detail: str) -> Lost:
    return Lost(reason, since * SECOND_US, until * SECOND_US, None, detail)
