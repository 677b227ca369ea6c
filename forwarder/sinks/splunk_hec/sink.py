"""Splunk's HTTP Event Collector (HEC), with or without indexer acknowledgement."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from forwarder.core.contracts import (
    Batch,
    BatchLimits,
    Finding,
    Rejection,
    SinkContext,
    WriteResult,
)
from forwarder.core.errors import TransientError
from forwarder.sinks.splunk_hec.acks import Acks, Channel, Channels
from forwarder.sinks.splunk_hec.answers import (
    AcksDisabledError,
    ChannelRefusedError,
    Sent,
    Taken,
    judge,
    judge_acks,
    judge_health,
)
from forwarder.sinks.splunk_hec.envelope import Envelopes, SplunkHecConfig, raw_query
from forwarder.transport.http_destination import HttpDestination
from forwarder.transport.presets import format_of, presets
from forwarder.transport.settings import origin

# Batches that may wait for acknowledgements: 5,000 events/s at 10 s each need fifty full ones.
_WAITING = 256
# A balancer that cannot reach the node answers so; the next request may reach another node.
_GATEWAY = frozenset({502, 504})
_NO_ACKS = "the token has no indexer acknowledgement; the answer 200 counts as delivered"


class SplunkHecSink:
    """Posts batches and waits for the indexers' acknowledgement where the token has it."""

    Config: ClassVar[type[SplunkHecConfig]] = SplunkHecConfig
    default_format: ClassVar[str] = "cim"
    summary: ClassVar[str] = "Splunk HTTP Event Collector, with indexer acknowledgement"

    def __init__(self, config: SplunkHecConfig, context: SinkContext) -> None:
        """Prepare everything that needs no connection."""
        self._config = config
        # Two more than batches: questions for acknowledgements must not queue behind them.
        self._http = HttpDestination(config, context, connections=config.connections + 2)
        self._channels = Channels()
        self._acks = Acks(
            self._ask,
            self._channels,
            context.clock,
            interval=config.ack_interval,
            patience=config.ack_timeout,
        )
        raw = config.endpoint == "raw"
        json = context.media_type == "application/json"
        self._envelopes = None if raw else Envelopes(config, json=json)
        self._path = f"/services/collector/{config.endpoint}{raw_query(config) if raw else ''}"
        # Channels of their own: HEC forgets an id that it was asked for, and a batch may have id 0.
        self._probes = Channels()
        self._gate = asyncio.Semaphore(config.connections)
        self._failures = 0
        self._told = False

    @classmethod
    def format_for(cls, settings: Mapping[str, Any]) -> str:
        """Return the format that the preset in unchecked ``settings`` wants, or the default."""
        return format_of("splunk_hec", settings, cls.default_format)

    @property
    def limits(self) -> BatchLimits:
        """Return many batches in flight when they may wait for acknowledgements."""
        waits = self._config.ack != "off"
        patience = self._config.ack_timeout if waits else 0.0
        limits = BatchLimits(
            max_in_flight=_WAITING if waits else self._config.connections,
            write_timeout=patience + 3 * self._config.response_timeout,
        )
        preset = self._config.preset
        return replace(limits, **presets("splunk_hec")[preset].limits) if preset else limits

    async def open(self) -> None:
        """Check that at least one collector is healthy and knows the token."""
        if self._config.probe:
            await self._http.probe(self._probe)
        else:
            self._config.authorization()  # raises for a secret file that cannot be read

    async def write(self, batch: Batch) -> WriteResult:
        """Post the batch, and wait for its acknowledgement if there will be one."""
        offsets = array("q", [event.offset for event in batch.events])
        body = self._envelopes.encode(batch.events) if self._envelopes else batch.lines()
        size = len(body)
        body = await self._http.packed(body)
        failures = self._failures
        if self._gate.locked():
            batch.release()
        async with self._gate:
            # Up to 256 batches wait here. After a failure the engine sends them again, one first.
            if failures != self._failures:
                raise TransientError("not sent: an attempt before it failed")
            channel, taken = await self._post(body, len(offsets), size)
        if taken.ack_id is not None and self._config.ack != "off" and batch.events:
            batch.release()
        del body  # 256 batches may wait here for minutes
        return _result(taken, offsets, await self._confirm(channel, taken))

    async def aclose(self) -> None:
        """Stop asking for acknowledgements and close the connections."""
        await self._acks.aclose()
        await self._http.aclose()

    async def diagnose(self) -> Sequence[Finding]:
        """Return for every collector whether it is healthy and knows the token."""
        if not self._config.probe:
            text = "cannot be tried without sending events, since probe is false"
            return [Finding("warning", origin(url), text) for url in self._http.urls]
        return await self._http.diagnosis(
            self._probe, "the collector is healthy and knows the token"
        )

    async def _post(self, body: bytes, count: int, size: int) -> tuple[Channel, Taken]:
        """Send one request under the channel of the next address, and interpret the answer."""
        doubt, channel = True, None
        try:
            with self._http.attempt() as url:
                channel = self._channels.current(url)
                answer = await self._http.send(
                    "POST", f"{url}{self._path}", body, self._headers(channel)
                )
                doubt = answer.status in _GATEWAY
                sent = Sent(count, size, answer.where)
                taken = judge(answer.status, answer.body, sent, self._http.retry_after(answer))
        except TransientError as error:
            self._failures += 1  # the batches at the gate are not sent any more
            if channel is not None and (doubt or isinstance(error, ChannelRefusedError)):
                self._channels.give_up(channel)
            raise
        if taken.acks_fill:
            self._acks.hurry()
        return channel, taken

    async def _confirm(self, channel: Channel, taken: Taken) -> tuple[str, ...]:
        """Wait for the acknowledgement; return notes about a delivery without one."""
        if self._config.ack == "off" or taken.accepted == 0:
            return ()
        if taken.ack_id is not None and await self._acks.acknowledged(channel, taken.ack_id):
            return ()
        if self._config.ack == "required":
            raise AcksDisabledError(
                f"{origin(channel.url)}: {_NO_ACKS}, and ack is required",
                hint="enable indexer acknowledgement for the token, or set ack: auto",
            )
        told, self._told = self._told, True
        return () if told else (f"acks_disabled: {_NO_ACKS}",)

    async def _ask(self, channel: Channel, ids: Sequence[int]) -> Mapping[int, bool]:
        """Return which of the ids are acknowledged."""
        answer = await self._http.ask(
            "POST",
            f"{channel.url}/services/collector/ack?channel={channel.id}",
            self._headers(channel),
            b'{"acks":[%b]}' % ",".join(map(str, ids)).encode(),
        )
        wait = self._http.retry_after(answer)
        return judge_acks(answer.status, answer.body, answer.where, wait)

    async def _probe(self, url: str) -> None:
        """Ask for the health, which needs no token, and for an acknowledgement, which does."""
        health = await self._http.ask("GET", f"{url}/services/collector/health")
        wait = self._http.retry_after(health)
        judge_health(health.status, health.body, health.where, wait)
        try:
            await self._ask(self._probes.current(url), [0])
        except AcksDisabledError:
            if self._config.ack == "required":
                raise

    def _headers(self, channel: Channel) -> dict[str, str]:
        """Return the headers of a request; without acknowledgement the channel is ignored."""
        return {"X-Splunk-Request-Channel": channel.id, "Content-Type": "application/json"}


def _result(taken: Taken, offsets: Sequence[int], notes: Sequence[str]) -> WriteResult:
    """Return what became of a batch with these offsets."""
    rejected = (Rejection(offsets[taken.accepted], taken.poison),) if taken.poison else ()
    return WriteResult(
        rejected=rejected,
        deferred=frozenset(offsets[taken.accepted + len(rejected) :]),
        retry_after=taken.retry_after,
        slow_down=taken.ease_off,
        notes=notes,
    )
