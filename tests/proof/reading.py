"""What every byte of an API answer goes through, from the envelope to each format's bytes."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import orjson

from forwarder.config.plugins import InstalledPlugins
from forwarder.core.contracts import Format, Record, StoredPage
from forwarder.core.schema import Origin
from forwarder.formats.pipeline import Pipeline
from forwarder.formats.shape import Shape, showing
from forwarder.sources.cloudflare_access import CloudflareAccess
from forwarder.sources.cloudflare_access.answers import (
    ACCESS_REQUESTS,
    SCIM_UPDATES,
    Response,
    read_rows,
)
from forwarder.sources.cloudflare_access.logs import PageMaker
from forwarder.sources.cloudflare_access.scim.updates import mask_row

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
NOW_US = 1_767_225_600_000_000
_STREAMS = (
    ("access_requests", ACCESS_REQUESTS, PageMaker(ACCOUNT, "access_requests", "created_at")),
    ("scim_updates", SCIM_UPDATES, PageMaker(ACCOUNT, "scim_updates", "logged_at", mask_row)),
)


def formats() -> dict[str, Format]:
    """Return every installed format with its default settings."""
    plugins = InstalledPlugins()
    loaded = {name: plugins.load("formats", name) for name in plugins.names("formats")}
    return {name: plugin(plugin.Config()) for name, plugin in loaded.items()}


_NORMALISERS = CloudflareAccess.normalisers
_FORMATS = formats()
_PIPELINES = {name: Pipeline(one, _NORMALISERS, {}) for name, one in _FORMATS.items()}


def read_through(status: int, headers: dict[str, str], body: bytes) -> int:
    """Read an answer as both streams and render every row in every format; return the rows.

    Raises what the envelope raises, which must be a documented error.
    """
    rows = 0
    for stream, endpoint, maker in _STREAMS:
        answer = read_rows(Response(status, headers, body), endpoint, NOW_US)
        records = maker.records(answer.rows)
        rows += len(records)
        if records:
            _render(_stored(stream, records))
    return rows


def _stored(stream: str, records: Sequence[Record]) -> StoredPage:
    times = [NOW_US if record.time_us is None else record.time_us for record in records]
    return StoredPage(
        first_offset=1,
        account_id=ACCOUNT,
        stream=stream,
        seen_us=NOW_US,
        times_us=array("q", times),
        ids=b"".join(record.identity for record in records),
        body=b"[" + b",".join(record.row for record in records) + b"]",
    )


def _render(page: StoredPage) -> None:
    """Render with every format, the quick way and row by row: the same lines, of good JSON."""
    for name, pipeline in _PIPELINES.items():
        rendered = pipeline(page)
        bodies = [event.body for event in rendered.events]
        assert not rendered.failed, rendered.failed
        plain = _plainly(page, _FORMATS[name])
        assert bodies == plain, [
            pair for pair in zip(bodies, plain, strict=True) if len({*pair}) > 1
        ]
        for body in bodies:
            if name in ("raw", "ecs", "ocsf", "cim"):
                orjson.loads(body)
            assert b"\n" not in body, name
            assert b"\r" not in body, name


def _plainly(page: StoredPage, chosen: Format) -> list[bytes]:
    """Return what a format makes of each row by itself, without templates and slices."""
    origin = Origin(page.account_id, page.account_id, page.stream, page.seen_us)
    normalise = _NORMALISERS[page.stream].normalise
    events = [
        normalise(row, origin, identity, time_us)
        for row, identity, time_us in zip(page.rows, page.hex_ids, page.times_us, strict=True)
    ]
    bodies = Shape().bodies(usual=chosen.request_bodies)
    return [chosen.render(showing(one, bodies)) for one in events]
