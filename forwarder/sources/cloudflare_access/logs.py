"""How one log of an account is read: the walk's request goes out, its answer becomes a page.

``AccessRequests`` reads the authentication log with it as a whole; ``scim_updates`` reads the
provisioning log chunk by chunk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from forwarder.core.contracts import Lost, Page, Record, Window
from forwarder.core.identity import Identifier, NativeIdentifier
from forwarder.core.source_contract import Parts, Purpose, Records, joined
from forwarder.core.timing import format_seconds, format_us, times_us
from forwarder.sources.cloudflare_access.account import (
    AccessRequestsConfig,
    AccountConfig,
    ScimUpdatesConfig,
    parameters,
)
from forwarder.sources.cloudflare_access.answers import ACCESS_REQUESTS, Answer, Endpoint
from forwarder.sources.cloudflare_access.api import Api, Params, off_loop
from forwarder.sources.cloudflare_access.walk import (
    SECOND_US,
    Advance,
    Seen,
    Step,
    advance,
    first_step,
)
from forwarder.transport.http import AnswerTooLargeError

_KEPT_PARSED = 4 * 2**20
"""Bytes of a page whose rows stay parsed; a larger one would be in memory twice."""
_GROWS_AFTER = 10
"""Answers in a row that must fit before twice as many rows are requested again."""

Row = Mapping[str, Any]


class Versions:
    """What the rows of the last rounds looked like, to count those that come with other content."""

    def __init__(self, most: int = 20_000) -> None:
        """Remember at most so many rows."""
        self._most = most
        self._known: OrderedDict[bytes, bytes] = OrderedDict()

    def amended(self, identities: Sequence[bytes], contents: Sequence[bytes]) -> int:
        """Return how many rows came before with another hash of their content."""
        count = 0
        for identity, content in zip(identities, contents, strict=True):
            count += self._known.get(identity, content) != content
            self._known[identity] = content
            self._known.move_to_end(identity)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return count


class PageMaker:
    """Turns answers of one stream of one account into pages.

    ``time_key`` names the row's time, with a dot before a key of an inner object. ``mask`` returns
    a row without its secrets (the row itself when it has none); it is applied after the identity is
    taken. ``native`` returns the id that a row has of its own, for a log whose rows have one.
    """

    def __init__(
        self,
        account_id: str,
        stream: str,
        time_key: str,
        mask: Callable[[Row], Row] | None = None,
        native: Callable[[Row], str] | None = None,
    ) -> None:
        """Keep nothing of a page but what its rows looked like, if they have ids."""
        self._identifier = (
            NativeIdentifier(account_id, stream, native)
            if native
            else Identifier(account_id, stream)
        )
        self._whole, self._versions = Identifier(account_id, stream), Versions()
        self._time_key, _, self._inner_key = time_key.partition(".")
        self._mask = mask

    def records(self, rows: Sequence[Row], text: bytes = b"") -> Records:
        """Return one record a row, in the order of the answer; ``text`` is ``Answer.text``."""
        identities, keys, lengths = self._identifier.identified(rows)
        # The identity comes first: if better masking changed it, known rows would come again.
        parsed = rows if self._mask is None else list(map(self._mask, rows))
        if self._mask is not None or not text:
            kept = list(map(orjson.dumps, parsed))
            text, lengths = joined(kept), list(map(len, kept))
        return Records(
            text,
            lengths,
            times_us(self._times(rows)),
            identities,
            keys,
            parsed if len(text) <= _KEPT_PARSED else None,
        )

    def contents(self, rows: Sequence[Row]) -> list[bytes]:
        """Return a hash of all that is in each row, for rows that have an id of their own."""
        return self._whole.identities(rows)

    def _times(self, rows: Sequence[Row]) -> list[Any]:
        """Return what each row has as its time."""
        found = [row.get(self._time_key) for row in rows]
        if not self._inner_key:
            return found
        return [one.get(self._inner_key) if isinstance(one, Mapping) else None for one in found]

    def page(
        self,
        answer: Answer,
        records: Sequence[Record],
        position: Any | None,
        lost: Iterable[Lost] = (),
        reached_us: int | None = None,
        contents: Sequence[bytes] = (),
    ) -> Page:
        """Return the page; it keeps the answer's rows only for ``project``.

        With ``contents`` of all its rows, those that came before with other content are counted.
        """
        identities = Records.of(records).identities if contents else ()
        return Page(
            records=records,
            position=position,
            server_time_us=answer.server_time_us,
            project=self._projector(answer.rows),
            lost=tuple(lost),
            malformed=answer.malformed,
            reached_us=reached_us,
            amended=self._versions.amended(identities, contents),
        )

    def _projector(self, rows: Sequence[Row]) -> Callable[[int, frozenset[str]], bytes]:
        """Return what gives rows the identities they had when rows carried only some keys."""
        known: dict[frozenset[str], list[bytes]] = {}

        def project(index: int, keys: frozenset[str]) -> bytes:
            if keys not in known:
                # All rows at once: copies are counted among the rows as they were then. Two rows
                # that only a new key tells apart were twins, and twins stay two.
                before = [{key: row[key] for key in keys if key in row} for row in rows]
                known[keys] = self._identifier.identities(before)
            return known[keys][index]

        return project


@dataclass(frozen=True, slots=True)
class Walked:
    """One answer of a walk; ``step`` is the next request, None at the window's end."""

    answer: Answer
    records: Records
    step: Step | None
    lost: tuple[Lost, ...]


class LogReader:
    """Reads one log of one account, one request of the time walk at a call."""

    def __init__(
        self,
        api: Api,
        account: AccountConfig,
        endpoint: Endpoint,
        config: AccessRequestsConfig | ScimUpdatesConfig,
        pages: PageMaker,
        advance: Advance = advance,
    ) -> None:
        """Do no I/O; ``advance`` is the walk, another one only in tests."""
        self._api = api
        self._endpoint = endpoint
        self._account = account
        self._largest_size = self._size = config.page_size
        self._fitting = 0
        self._query = parameters(endpoint.name, config.query)
        self._pages = pages
        self._advance = advance
        self._most = 0

    async def walk(self, step: Step, window: Window, purpose: Purpose, more: Params = ()) -> Walked:
        """Send the walk's next request, with ``more`` parameters; raises as ``Api.get``."""
        answer, step, size = await self._request(step, window, purpose, more)
        records = await off_loop(answer.size, lambda: self._pages.records(answer.rows, answer.text))
        self._most = max(self._most, len(records))
        seen = Seen(records.times_us, records.identities, size, answer.per_page, self._most)
        following, lost = self._advance(step, window, seen)
        return Walked(answer, records, following, (lost,) if lost else ())

    async def _request(
        self, step: Step, window: Window, purpose: Purpose, more: Params
    ) -> tuple[Answer, Step, int]:
        """Return an answer that fits, the step that it belongs to, and how many rows it may have.

        An answer that is too large is requested again with half as many rows.
        """
        # While pages are turned their size must stay: page 3 of 500 rows is not page 3 of 1,000.
        size = step.size or self._size
        while True:
            try:
                answer = await self._api.get(
                    self._endpoint,
                    [*request_parameters(step, window, size), *more, *self._query],
                    purpose=purpose,
                    urgency=urgency(step, self._account),
                    smallest=size == 1,
                )
            except AnswerTooLargeError:
                if size == 1:
                    raise
                # Back to page 1: with another size every page begins elsewhere.
                size, step, self._fitting = size // 2, step.at(step.since_us), 0
                self._size = min(size, self._size)
            else:
                self._grow(step)
                return answer, step, size

    def _grow(self, step: Step) -> None:
        self._fitting += 1
        if self._fitting >= _GROWS_AFTER and not step.size:
            self._size, self._fitting = min(2 * self._size, self._largest_size), 0


def request_parameters(step: Step, window: Window, page_size: int) -> list[tuple[str, str]]:
    """Return the parameters of the walk's next request."""
    # Whole seconds wherever possible: a server may cut times, and does so downwards.
    since = format_us if step.since_us % SECOND_US else format_seconds
    # Rounded up: the part of a second that is cut off would hide its rows.
    until_us = -(-window.until_us // SECOND_US) * SECOND_US
    return [
        # Never left to the API's default: the walk goes forward in time.
        ("direction", "asc"),
        ("since", since(step.since_us)),
        ("until", format_seconds(until_us)),
        ("page", str(step.page)),
        # Both, since the default of one would cut what the other allows.
        ("per_page", str(page_size)),
        ("limit", str(page_size)),
    ]


def urgency(step: Step, account: AccountConfig) -> float:
    """Return when the next rows expire, in seconds since 1970: the soonest goes first."""
    return step.since_us / SECOND_US + account.retention


class AccessRequests:
    """The authentication log of one account; implements ``core.source_contract.Source``."""

    stream: ClassVar[str] = ACCESS_REQUESTS.name

    def __init__(
        self,
        api: Api,
        account: AccountConfig,
        config: AccessRequestsConfig,
        *,
        advance: Advance = advance,
    ) -> None:
        """Do no I/O."""
        self._api = api
        self._pages = PageMaker(account.account_id, self.stream, "created_at")
        self._reader = LogReader(api, account, ACCESS_REQUESTS, config, self._pages, advance)

    async def fetch(
        self,
        window: Window,
        position: Any | None,
        *,
        parts: Sequence[str] = (),  # noqa: ARG002 - this stream has none
        purpose: Purpose = Purpose.LIVE,
    ) -> Page:
        """Read one page of the walk through ``window``."""
        step = Step.from_json(position) or first_step(window)
        walked = await self._reader.walk(step, window, purpose)
        following = walked.step
        return self._pages.page(
            walked.answer,
            walked.records,
            following and following.to_json(),
            walked.lost,
            following.since_us if following else None,
        )

    async def parts(self, memory: Any | None, now_us: int) -> Parts:  # noqa: ARG002 - the contract's
        """Return no parts: this stream is read as a whole."""
        return Parts()

    async def server_time_us(self) -> int:
        """Return Cloudflare's clock in microseconds since 1970."""
        return await self._api.server_time_us()
