"""The format ``raw``: the row as received, with what the forwarder knows beside it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from operator import itemgetter
from typing import Any, ClassVar

from pydantic import Field

from forwarder.core.json_text import dumps
from forwarder.core.model import StoredPage
from forwarder.core.origin import Origin
from forwarder.core.schema import Event
from forwarder.core.timestamps import format_us
from forwarder.formats.json_objects import add_fields
from forwarder.transport.settings import PluginSettings

ENVELOPE = "_forwarder"
MOVED = "_forwarder_row"
_VERSION = 1
_BRACE = frozenset(b"{")
_first: Any = itemgetter(0)
_without_first: Any = itemgetter(slice(1, None))


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
        target = dict(event.row)
        if self._config.envelope:
            if ENVELOPE in target:
                target[MOVED] = target.pop(ENVELOPE)
            target[ENVELOPE] = {"id": event.id, **_shared(event.origin)}
        return dumps(add_fields(target, self._added))

    def render_cut(self, page: StoredPage, origin: Origin) -> list[bytes] | None:
        """Return all rows of a page, cut out of its body instead of written anew.

        None where ``render`` has more to do than that; otherwise it gives the same JSON.
        """
        rows = None if self._added else cut(page.body, page.count)
        if rows is None or [
            row for row in page.rows if not row or ENVELOPE in row or "request_body" in row
        ]:
            return None
        if not self._config.envelope:
            return [row + b"}" for row in rows]
        before, after = b',"_forwarder":{"id":"', b'",%b}' % dumps(_shared(origin))[1:]
        ids = page.ids.hex("-", -16).encode().split(b"-")
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
