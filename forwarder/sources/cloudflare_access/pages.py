"""An answer's rows become a page: raw bytes, times, identities, key sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from forwarder.core.contracts import Lost, Page, Record
from forwarder.core.identity import Identifier
from forwarder.core.source_contract import Records, joined
from forwarder.core.timing import times_us
from forwarder.sources.cloudflare_access.envelope import Answer
from forwarder.sources.cloudflare_access.walk import Seen

Row = Mapping[str, Any]


class PageMaker:
    """Turns answers of one stream of one account into pages.

    ``time_key`` names the row's time. ``mask`` returns a row without its secrets (the row itself
    when it has none); it is applied after the identity is taken.
    """

    def __init__(
        self,
        account_id: str,
        stream: str,
        time_key: str,
        mask: Callable[[Row], Row] | None = None,
    ) -> None:
        """Hold nothing of a page but how many rows the largest had."""
        self._identifier = Identifier(account_id, stream)
        self._time_key = time_key
        self._mask = mask
        self._most = 0

    def records(self, rows: Sequence[Row], text: bytes = b"") -> Records:
        """Return one record a row, in the order of the answer; ``text`` is ``Answer.text``."""
        identities, keys, lengths = self._identifier.identified(rows)
        parsed = rows if self._mask is None else list(map(self._mask, rows))
        if self._mask is not None or not text:
            kept = list(map(orjson.dumps, parsed))
            text, lengths = joined(kept), list(map(len, kept))
        return Records(
            text,
            lengths,
            times_us([row.get(self._time_key) for row in rows]),
            identities,
            keys,
            parsed,
        )

    def seen(self, records: Records, asked: int, per_page: int | None) -> Seen:
        """Return what the walk looks at; ``per_page`` is what the server says it used."""
        self._most = max(self._most, len(records.times_us))
        return Seen(records.times_us, records.identities, asked, per_page, self._most)

    def page(
        self,
        answer: Answer,
        records: Sequence[Record],
        position: Any | None,
        lost: Sequence[Lost] = (),
        reached_us: int | None = None,
    ) -> Page:
        """Return the page; the rows stay at hand only for ``project``."""
        return Page(
            records=records,
            position=position,
            server_time_us=answer.server_time_us,
            project=self._projector(answer.rows),
            lost=tuple(lost),
            malformed=answer.malformed,
            reached_us=reached_us,
        )

    def _projector(self, rows: Sequence[Row]) -> Callable[[int, frozenset[str]], bytes]:
        """Return what gives rows the identities they had when rows carried only some keys.

        Copies are counted among the rows as they were then: two rows that only a new key tells
        apart were twins, and twins stay two.
        """
        known: dict[frozenset[str], list[bytes]] = {}

        def project(index: int, keys: frozenset[str]) -> bytes:
            if keys not in known:
                before = [{key: row[key] for key in keys if key in row} for row in rows]
                known[keys] = self._identifier.identities(before)
            return known[keys][index]

        return project
