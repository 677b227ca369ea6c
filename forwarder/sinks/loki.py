"""Grafana Loki: events as log lines, in order of time within each of Loki's streams.

A stream is a set of labels. Loki takes a line only if it is not too far behind the newest line of
its stream and not older than the tenant's limit; the refusal of an older one is final and nobody's
fault. A line that is sent twice is stored once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias

import orjson
from pydantic import Field, field_validator

from forwarder.core.contracts import (
    ACCEPTED,
    Batch,
    BatchEvent,
    BatchLimits,
    Finding,
    Rejection,
    SinkContext,
    WriteResult,
)
from forwarder.core.errors import BatchRefusedError, NeedsOperatorError
from forwarder.core.timing import parse_us
from forwarder.transport.http import Answer
from forwarder.transport.http_destination import HttpAuth, HttpDestination
from forwarder.transport.settings import Size

Streams: TypeAlias = Mapping[str, tuple[dict[str, str], list[BatchEvent]]]
"""Labels and events of each stream, by the labels as Loki writes them."""

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_STORED, _REFUSED = 204, 400
# What a push of nothing is answered with depends on the version; all of them follow the log-in.
_PROBED = frozenset({204, 400, 422})
_TOO_OLD = re.compile(r"too far behind|timestamp too old")
_OLDEST = re.compile(r"oldest acceptable timestamp is: ([0-9TZ:.+-]+)")
_BAD_LABELS = re.compile(r"label names?\b|label value|parsing labels|label pair|duplicate label")
_OLD = "older than Loki takes into its stream"


class LokiConfig(HttpAuth):
    """Where Loki is, which tenant it is for, and which labels make a stream."""

    tenant: str | None = Field(None, min_length=1, description="tenant, sent as X-Scope-OrgID")
    labels: dict[str, str] = Field(
        {"job": "cloudflare_access"}, description="labels that every event gets"
    )
    event_labels: tuple[Literal["stream", "account", "outcome", "lane"], ...] = Field(
        ("stream", "account", "lane"),
        description="labels out of the event; lane is live, backfill or replay, and keeps old "
        "events apart from live ones, beside which they would be too old",
    )
    max_line_bytes: Size = Field(
        256 * 1024, ge=1024, description="longest line; at most the tenant's max_line_size"
    )

    @field_validator("labels")
    @classmethod
    def _are_labels(cls, value: dict[str, str]) -> dict[str, str]:
        # Loki would refuse every push, with a message about its parser.
        for name in value:
            if not _LABEL.fullmatch(name):
                raise ValueError(f"{name!r} is not a valid label; use letters, digits and _")
        return value


class LokiSink:
    """Pushes one batch at a time, so that no stream goes backwards."""

    Config: ClassVar[type[LokiConfig]] = LokiConfig
    default_format: ClassVar[str] = "raw"
    summary: ClassVar[str] = "Grafana Loki, with labels and tenants"

    def __init__(self, config: LokiConfig, context: SinkContext) -> None:
        """Prepare everything that needs no connection."""
        self._config = config
        self._http = HttpDestination(config, context)
        self._headers = {"Content-Type": "application/json"}
        if config.tenant is not None:
            self._headers["X-Scope-OrgID"] = config.tenant

    @property
    def limits(self) -> BatchLimits:
        """Return one batch at a time, and the longest line."""
        return BatchLimits(
            max_in_flight=1,
            max_event_bytes=self._config.max_line_bytes,
            write_timeout=self._config.response_timeout * 2,
        )

    async def open(self) -> None:
        """Push nothing to at least one address: that proves log-in and tenant."""
        await self._http.probe(self._probe)

    async def write(self, batch: Batch) -> WriteResult:
        """Return when Loki has stored every line that it takes."""
        streams = streams_of(self._config, batch)
        packed = await self._http.packed(encode(streams))
        with self._http.attempt() as url:
            answer = await self._http.send("POST", _push(url), packed, self._headers)
            if answer.status == _REFUSED:
                return judge(answer.body.decode("utf-8", "replace"), streams, answer.where)
            self._check(answer)
        return ACCEPTED

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def diagnose(self) -> Sequence[Finding]:
        """Push nothing to every address, and say what is wrong."""
        return await self._http.diagnosis(self._probe, "takes pushes from us")

    async def _probe(self, url: str) -> None:
        answer = await self._http.ask("POST", _push(url), self._headers, b'{"streams":[]}')
        if answer.status not in _PROBED:
            self._check(answer)

    def _check(self, answer: Answer) -> None:
        self._http.check(answer)
        # A tenant whose ingestion is blocked gets another 2xx, and its lines are thrown away.
        if answer.status != _STORED:
            raise NeedsOperatorError(
                f"{answer.where} answered {answer.status} to a push instead of 204",
                hint="check the URL, and whether ingestion is blocked for the tenant",
            )


def _push(url: str) -> str:
    return f"{url}/loki/api/v1/push"


def streams_of(config: LokiConfig, batch: Batch) -> Streams:
    """Return the events by stream, each in order of time."""
    # Only the kind of the lane: with the id of a backfill the number of streams had no bound.
    lane = batch.lane.partition(":")[0]
    streams: dict[str, tuple[dict[str, str], list[BatchEvent]]] = {}
    for event in sorted(batch.events, key=lambda event: event.time_us):
        known = {"stream": event.stream, "account": event.account, "outcome": event.outcome}
        known["lane"] = lane
        labels = config.labels | {name: known[name] for name in config.event_labels}
        streams.setdefault(written(labels), (labels, []))[1].append(event)
    return streams


def written(labels: Mapping[str, str]) -> str:
    """Return labels as Loki writes them in its answers."""
    pairs = (f"{name}={orjson.dumps(labels[name]).decode()}" for name in sorted(labels))
    return f"{{{', '.join(pairs)}}}"


def encode(streams: Streams) -> bytes:
    """Return the body of a push. Times are nanoseconds as text: Loki refuses numbers."""
    found = [
        {
            "stream": labels,
            "values": [[f"{e.time_us}000", e.body.decode("utf-8", "replace")] for e in events],
        }
        for labels, events in streams.values()
    ]
    return orjson.dumps({"streams": found})


def judge(said: str, streams: Streams, where: str) -> WriteResult:
    """Return what became of the events of a push that was answered with 400.

    Raises ``NeedsOperatorError`` for labels that Loki refuses, ``BatchRefusedError`` when the
    answer does not tell which events are at fault.
    """
    # Every event of the stream has the same labels, so splitting the batch would find nobody.
    if _BAD_LABELS.search(said):
        raise NeedsOperatorError(
            f"{where} refuses the labels", hint="check labels and event_labels; see Loki's limits"
        )
    every = [event for _, events in streams.values() for event in events]
    too_old = _TOO_OLD.search(said) is not None
    if len(every) == 1:
        reason = _OLD if too_old else "refused by Loki: too long, or too far in the future"
        return WriteResult(rejected=[Rejection(every[0].offset, reason, expected=too_old)])
    bounds = [bound for text in _OLDEST.findall(said) if (bound := parse_us(text)) is not None]
    # Streams that are not named were taken whole; of several bounds the oldest holds for all.
    named = [event for name, (_, events) in streams.items() if name in said for event in events]
    old = {event.offset for event in named if too_old and event.time_us < min(bounds, default=0)}
    if not old:
        raise BatchRefusedError(f"{where} answered 400")
    # The answer does not name those that were taken. They are sent again, and stored once.
    return WriteResult(
        rejected=[Rejection(offset, _OLD, expected=True) for offset in sorted(old)],
        deferred=frozenset(event.offset for event in every) - old,
    )
