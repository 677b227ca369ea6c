"""The format ``raw``: the row as received, with what the forwarder knows beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from forwarder.core.identity import dumps
from forwarder.core.masking import mask_row
from forwarder.core.schema import Bodies, Event, Normaliser, Origin, without_body
from forwarder.core.timing import format_us
from forwarder.formats.json_events import add_fields
from forwarder.transport.settings import PluginSettings

ENVELOPE = "_forwarder"
MOVED = "_forwarder_row"
_VERSION = 1


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
    as_received = True

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

    def render_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        ids: Sequence[str],
        times_us: Sequence[int],  # noqa: ARG002 - a row has its time as it came
        origin: Origin,
        normaliser: Normaliser,
        bodies: Bodies,
    ) -> list[bytes]:
        """Return what ``render`` gives for the rows: an event would only hand on its row."""
        # The normaliser masks the rows that reach `render`; this way goes around it.
        rows = list(map(mask_row, rows))
        if bodies is not Bodies.WHOLE and normaliser.usual and normaliser.usual.has_bodies:
            rows = list(map(without_body, rows))
        shared = _shared(origin)
        if self._added or not self._config.envelope:
            return [self._write(row, id, shared) for row, id in zip(rows, ids, strict=True)]  # noqa: A001
        # A row and its envelope are written apart: the envelope is the same but for the id.
        before, after = f',"{ENVELOPE}":{{"id":"'.encode(), b'",' + dumps(shared)[1:] + b"}"
        return [
            dumps(row)[:-1] + before + id.encode() + after
            if row and ENVELOPE not in row
            else self._write(row, id, shared)
            for row, id in zip(rows, ids, strict=True)  # noqa: A001
        ]

    def _write(self, row: Mapping[str, Any], id: str, shared: Mapping[str, Any]) -> bytes:  # noqa: A002
        # A copy: other sinks get the same row.
        target = dict(row)
        if self._config.envelope:
            if ENVELOPE in target:
                target[MOVED] = target.pop(ENVELOPE)
            target[ENVELOPE] = {"id": id, **shared}
        return dumps(add_fields(target, self._added))


def _shared(origin: Origin) -> dict[str, Any]:
    return {
        "stream": origin.stream,
        "account_id": origin.account_id,
        "account": origin.account,
        "received_at": format_us(origin.seen_us),
        "version": _VERSION,
    }
