"""The format ``raw``: the row as received, with what the forwarder knows beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, ClassVar

from pydantic import Field

from forwarder.core.contracts import FORWARDER_STREAM, StoredPage
from forwarder.core.identity import dumps, dumps_each
from forwarder.core.login import Origin
from forwarder.core.masking import mask_rows
from forwarder.core.schema import RAW_BYTES_KEY, Event, Normaliser, read_nothing
from forwarder.core.timing import format_us
from forwarder.formats.json_objects import add_fields
from forwarder.formats.privacy import without_body
from forwarder.transport.settings import PluginSettings

ENVELOPE = "_forwarder"
MOVED = "_forwarder_row"
_VERSION = 1
_BRACE = frozenset(b"{")
_first: Any = itemgetter(0)
_without_first: Any = itemgetter(slice(1, None))
_without_last: Any = itemgetter(slice(-1))


class RawConfig(PluginSettings):
    """What a sink with ``format: raw`` takes."""

    envelope: bool = Field(
        default=True, description="add _forwarder: id, stream, account and time of arrival"
    )


class RawFormat:
    """The row, and ``_forwarder: {id, stream, account_id, account, received_at, version}``.

    A row's own key ``_forwarder`` moves to ``_forwarder_row``.
    """

    Config: ClassVar[type[RawConfig]] = RawConfig
    summary: ClassVar[str] = "the row as received, with an envelope beside it"
    media_type = "application/json"
    request_bodies = True

    def __init__(self, config: RawConfig, added: Mapping[str, str] | None = None) -> None:
        """Take the settings and the fields to add (dotted paths)."""
        self._config = config
        self._added = added or {}

    def adding(self, fields: Mapping[str, str]) -> RawFormat:
        """Return this format with ``fields`` (dotted path to text) in every event."""
        return RawFormat(self._config, fields)

    def render(self, event: Event) -> bytes:
        """Return the row of ``event`` as one line of JSON."""
        return self._write(event.row, event.id, _shared(event.origin))

    def _write(self, row: Mapping[str, Any], id: str, shared: Mapping[str, Any]) -> bytes:  # noqa: A002
        target = dict(row)
        if self._config.envelope:
            if ENVELOPE in target:
                target[MOVED] = target.pop(ENVELOPE)
            target[ENVELOPE] = {"id": id, **shared}
        return dumps(add_fields(target, self._added))

    def render_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        ids: Sequence[str],
        times_us: Sequence[int],
        origin: Origin,
        normaliser: Normaliser,
        *,
        bodies: bool,
    ) -> list[bytes]:
        """Return the events of a page; no event is made where it would only hand on the row."""
        if bodies and normaliser.read_rows is not read_nothing:
            masked = mask_rows(rows)
            odd = [row for row in masked if not row or ENVELOPE in row]
            if self._config.envelope and not self._added and not odd:
                heads = map(_without_last, dumps_each(masked))
                return _enveloped(heads, "-".join(ids).encode().split(b"-"), origin)
            shared = _shared(origin)
            return [self._write(row, id, shared) for row, id in zip(masked, ids, strict=True)]  # noqa: A001
        events = map(normaliser.normalise, rows, repeat(origin), ids, times_us)
        return list(map(self.render, events if bodies else map(without_body, events)))

    def render_cut(self, page: StoredPage, origin: Origin) -> list[bytes] | None:
        """Return all rows of a page, cut out of its body instead of written anew.

        None where ``render`` has more to do than that; otherwise it gives the same JSON.
        """
        differ = page.stream == FORWARDER_STREAM  # each own event may be about another account
        whole = self._added or differ or b'"request_body"' in page.body
        rows = None if whole else cut(page.body, page.count)
        if rows is None or [
            row
            for row in page.rows
            if not row or ENVELOPE in row or "request_body" in row or RAW_BYTES_KEY in row
        ]:
            return None
        if not self._config.envelope:
            return [row + b"}" for row in rows]
        return _enveloped(rows, page.ids.hex("-", -16).encode().split(b"-"), origin)


def _enveloped(rows: Iterable[bytes], ids: Iterable[bytes], origin: Origin) -> list[bytes]:
    """Return rows, given without their last brace, with their envelopes."""
    before, after = b',"_forwarder":{"id":"', b'",%b}' % dumps(_shared(origin))[1:]
    return list(map(b"".join, zip(rows, repeat(before), ids, repeat(after), strict=False)))


def cut(body: bytes, count: int) -> list[bytes] | None:
    """Cut a JSON array of ``count`` objects into those, each without its last brace.

    None unless there are no more ``}`` than rows: then each is the end of a row, and no row has
    one in a text or a value. Nor may there be white space between rows or a line end.
    """
    pieces = body.split(b"}")
    if len(pieces) != count + 1 or b"\n" in body:
        return None
    rows = list(map(_without_first, pieces[:-1]))
    return rows if {*map(_first, rows)} <= _BRACE else None


def _shared(origin: Origin) -> dict[str, Any]:
    return {
        "stream": origin.stream,
        "account_id": origin.account_id,
        "account": origin.account,
        "received_at": format_us(origin.seen_us),
        "version": _VERSION,
    }
