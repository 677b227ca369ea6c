"""Receives pushes over HTTP and answers 200 only when their rows are durable.

    secret or proof -> account and dataset -> may anything be stored? -> body -> parts -> 200
                                           -> another replica has the journal: it answers

Every step may end a request; only after the third is a byte of the body read.
"""

from __future__ import annotations

import asyncio
import hmac
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import NamedTuple

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from forwarder.core.contracts import Lost, StreamKey
from forwarder.core.errors import (
    ForwarderError,
    NeedsOperatorError,
    NotTakingError,
    TransientError,
)
from forwarder.core.source_contract import Intake, PushedPart, SourceContext
from forwarder.sources.logpush.body import Body, Overlong, PushRefusedError
from forwarder.sources.logpush.config import DATASET, LogpushConfig
from forwarder.sources.logpush.events import (
    PushDelayed,
    PushGivenUp,
    PushRefused,
    PushStored,
    RequestAnswered,
    SecretRefused,
)
from forwarder.sources.logpush.peers import Peers
from forwarder.sources.logpush.rows import Read, RowReader, joined
from forwarder.transport.listening import Listener

UNREADABLE = "push_unreadable"
"""The reason of the gap for rows that were pushed and could not be kept."""
_PART = 2 * 2**20
"""About the bytes of rows that are stored in one transaction."""
_AT_ONCE = 8
"""Bodies that are in memory at one time; further ones wait unread."""
_PARTS_AT_ONCE = 2
MOST_DATASETS = 256
"""Datasets of an account that are accepted without a list of datasets in the settings."""
_REMEMBERED = 256
_GLANCE = 0.5
"""Seconds between two looks at whether the replica that is to answer still has the journal."""
_LINGERING = 2.0
"""Seconds for a client to notice a refusal while it is still sending."""
_RETRY = 30
_LONGEST_PATH = 200


class Refusals:
    """How often each invalid body came, so that none is refused for ever."""

    def __init__(self, most: int) -> None:
        """Give a body up at its refusal number ``most``."""
        self._most = most
        self._counts: OrderedDict[str, int] = OrderedDict()

    def note(self, fingerprint: str) -> bool:
        """Count one refusal; return True if the body was refused often enough."""
        count = self._counts.pop(fingerprint, 0) + 1
        self._counts[fingerprint] = count
        if len(self._counts) > _REMEMBERED:
            self._counts.popitem(last=False)
        return count > self._most


class Target(NamedTuple):
    """What a request is for: the stream, the account's label, the dataset."""

    key: StreamKey
    account: str
    dataset: str

    @property
    def reader(self) -> RowReader:
        """Return a new reader for the rows of one body."""
        return RowReader(self.key.account_id, self.key.stream, self.dataset)


class Receiver:
    """Listens on one address for the pushes of all accounts."""

    def __init__(self, config: LogpushConfig, intake: Intake, context: SourceContext) -> None:
        """Listen to nothing yet; what is received goes to ``intake``."""
        self._config = config
        self._intake = intake
        self._clock = context.clock
        self._emit = context.emit
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._storing = asyncio.Semaphore(_PARTS_AT_ONCE)
        self._peers = Peers(config, context.user_agent, context.clock)
        self._tls = False
        self._streams = set[StreamKey]()
        self._refusals = Refusals(config.limits.refusals)
        app = web.Application()
        paths = ("/{account}/{dataset}", "/{other:.*}")
        app.add_routes([web.post(path, self._answer, expect_handler=_not_yet) for path in paths])
        app.add_routes([web.get("/", _alive), web.route("*", "/{other:.*}", _no_push)])
        self._listener = Listener(
            "logpush",
            app,
            most=config.limits.connections,
            # Bodies are unpacked here, with bounds.
            auto_decompress=False,
            lingering_time=_LINGERING,
        )

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> str:
        """Listen and return the base URL; port 0 takes a free port.

        Raises ``ConfigError`` if the address cannot be used.
        """
        self._tls = tls is not None
        return await self._listener.start(host, port, tls)

    async def aclose(self) -> None:
        """Stop listening and close what is open; idempotent."""
        await self._listener.aclose()
        await self._peers.aclose()

    async def _answer(self, request: web.Request) -> web.Response:
        peer, path, proof = request.remote or "", request.path[:_LONGEST_PATH], ""
        try:
            proof = self._admitted(request, peer)
            target = self._target(request)
            owner = self._intake.elsewhere(target.key.account_id)
            if owner and not proof:
                status, reason = await self._passed_on(request, target, owner)
                result = "passed_on"
            else:
                await self._intake.admit(target.key.account_id)
                await self._bound(target.key)
                await _continue(request)
                status, reason = 200, await self._received(request, target)
                result = reason
        except ForwarderError as error:
            result = error.result if isinstance(error, NotTakingError) else "failed"
            status, reason = 503, str(error)
            self._emit(PushDelayed(result, peer, path, status, reason))
        except PushRefusedError as error:
            status, result, reason = error.status, error.result, str(error)
            if result == "refused_secret":
                self._emit(SecretRefused(peer))
            else:
                self._emit(PushRefused(result, peer, path, status, reason))
        self._emit(RequestAnswered(result))
        headers = self._peers.marks(proof, status, reason)
        if status == 503:  # noqa: PLR2004 - nothing can be stored at present
            headers["Retry-After"] = str(_RETRY)
        return web.Response(status=status, text=reason + "\n", headers=headers)

    async def _passed_on(self, request: web.Request, target: Target, owner: str) -> tuple[int, str]:
        """Return the answer of the replica at ``owner``; raises ``NotTakingError`` without one.

        A replica that is frozen keeps the connection: the wait ends when another has the journal.
        """
        account_id = target.key.account_id
        if self._tls and not owner.startswith("https:"):
            # Whoever could write the database would read the rows off the line.
            raise NotTakingError("no_owner", "the replica that has the journal serves no HTTPS")
        path = f"/{account_id}/{target.dataset}"
        hop = asyncio.ensure_future(
            self._peers.pass_on(request, owner, path, lambda: _continue(request))
        )
        moved = asyncio.ensure_future(self._moved(account_id, owner))
        try:
            await asyncio.wait({hop, moved}, return_when=asyncio.FIRST_COMPLETED)
            error = hop.exception() if hop.done() else TransientError("it has lost it")
            if isinstance(error, TransientError):
                reason = f"the replica that has the journal of the account: {error}"
                raise NotTakingError("no_owner", reason) from error
            return hop.result()
        finally:
            hop.cancel()
            moved.cancel()
            await asyncio.gather(hop, moved, return_exceptions=True)

    async def _moved(self, account_id: str, owner: str) -> None:
        """Return when this process learns that the replica at ``owner`` has lost the journal."""
        while self._intake.elsewhere(account_id) == owner:
            await self._clock.sleep(_GLANCE)

    def _admitted(self, request: web.Request, peer: str) -> str:
        """Return the proof of the replica that passes a request on; empty for any other client.

        Raises ``PushRefusedError`` for whoever may not push.
        """
        networks = self._config.allow
        if networks and not any(ip_address(peer) in network for network in networks):
            raise PushRefusedError("refused_network", 403, "this address may not push here")
        proof = self._peers.admitted(request, self._intake.here())
        given = request.headers.get(self._config.header, "")
        # aiohttp decodes headers with surrogateescape; the same way back gives the bytes sent.
        if not proof and not self._is_secret(given.encode(errors="surrogateescape")):
            raise PushRefusedError("refused_secret", 401, "the secret is missing or wrong")
        return proof

    def _target(self, request: web.Request) -> Target:
        """Return what a request is for; raises ``PushRefusedError``."""
        if "other" in request.match_info:
            raise PushRefusedError("refused_account", 404, "the path must be /ACCOUNT/DATASET")
        account = self._intake.account(request.match_info["account"])
        dataset = request.match_info["dataset"]
        if account is None:
            raise PushRefusedError("refused_account", 404, "the settings name no such account")
        key = StreamKey(account[0], self._config.stream_prefix + dataset)
        if self._config.datasets and dataset not in self._config.datasets:
            raise PushRefusedError("refused_account", 404, "logpush.datasets lacks this dataset")
        if not DATASET.fullmatch(dataset):
            raise PushRefusedError("refused_account", 404, "this is no name of a dataset")
        return Target(key, account[1], dataset)

    async def _bound(self, key: StreamKey) -> None:
        """Raise ``PushRefusedError`` for a dataset too many: each has metrics of its own."""
        if self._config.datasets or key in self._streams:
            return
        stored = await self._intake.streams(key.account_id)
        if key.stream not in stored and len(stored) >= MOST_DATASETS:
            reason = "too many datasets: name those you want in logpush.datasets"
            raise PushRefusedError("refused_account", 404, reason)
        self._streams.update(StreamKey(key.account_id, stream) for stream in stored)

    def _is_secret(self, given: bytes) -> bool:
        try:
            secrets = self._config.secrets()
        except NeedsOperatorError:
            return False  # the secret's file is gone: closed is the safe side
        # Each is compared, in constant time: a match must not show by its time.
        matches = [hmac.compare_digest(given, secret.encode()) for secret in secrets]
        return any(matches)

    async def _received(self, request: web.Request, target: Target) -> str:
        """Read a body, store its rows and return the result; raises what ``_answer`` catches."""
        limits, declared = self._config.limits, request.content_length
        body = Body(limits, said_gzip=_says_gzip(request), declared=declared)
        async with self._place():
            try:
                async with asyncio.timeout(limits.time):
                    await body.read(request.content.iter_any())
            except PushRefusedError as error:
                if not self._refusals.note(body.fingerprint):
                    raise
                return await self._give_up(body, target, str(error))
            except TimeoutError:
                reason = f"the body was not sent within {limits.time:.0f} seconds"
                raise body.refusal or PushRefusedError("incomplete", 408, reason) from None
            # RuntimeError: the listener has closed the connection to make room for another one.
            except (OSError, HttpProcessingError, web.PayloadAccessError, RuntimeError) as error:
                reason = f"the body was not sent to its end ({type(error).__name__})"
                raise PushRefusedError("incomplete", 400, reason) from error
            return "validation" if body.is_validation else await self._stored(body, target)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Wait for room in memory; what is not read yet stays in the client's hands."""
        try:
            async with asyncio.timeout(self._config.limits.time):
                await self._at_once.acquire()
        except TimeoutError:
            reason = "other bodies are still being stored"
            raise NotTakingError("failed", reason) from None
        try:
            yield
        finally:
            self._at_once.release()

    async def _stored(self, body: Body, target: Target) -> str:
        """Store all parts of a body; return ``accepted``, or ``duplicate`` if all were known."""
        parts = self._parts(body, target.reader)
        stored = rows = 0
        oldest_us: int | None = None
        while True:
            # The rows of a part take several times its bytes, so only a few are there at a time.
            async with self._storing:
                read = await anext(parts, None)
                if read is None:
                    break
                await self._intake.admit(target.key.account_id)
                # By its lines: a part that is known has these rows, however the body was cut.
                name = f"{body.name}:{rows}-{rows + len(read.records)}"
                stored += await self._intake.store(self._part(target.key, name, read))
            rows += len(read.records)
            times = [time for time in (*read.records.times_us, oldest_us) if time is not None]
            oldest_us = min(times, default=None)
        self._note(target, rows, body.size, oldest_us)
        return "accepted" if stored or not rows else "duplicate"

    def _part(self, key: StreamKey, name: str, read: Read) -> PushedPart:
        lost = self._lost(read.cut, "rows that are longer than limits.line") if read.cut else ()
        return PushedPart(key, name, read.records, read.twins, read.malformed, lost)

    def _lost(self, rows: int | None, detail: str) -> tuple[Lost]:
        now_us = self._clock.now_us()
        return (Lost(UNREADABLE, now_us, now_us, rows, detail),)

    async def _parts(self, body: Body, reader: RowReader) -> AsyncIterator[Read]:
        """Give the rows of a body, about ``_PART`` bytes at a time.

        A body that comes again is cut at the same lines, wherever the network cuts it.
        """
        reads, room = list[Read](), _PART
        for lines in body.lines():
            for some, size in _fitting(lines, room):
                reads.append(reader.read(some))
                room -= size
                if room <= 0:
                    yield joined(reads)
                    reads, room = [], _PART
            # Each time through is some milliseconds: others must run in between.
            await asyncio.sleep(0)
        if reads:
            yield joined(reads)

    async def _give_up(self, body: Body, target: Target, why: str) -> str:
        """Store the beginning of a body that came again and again, and a gap for the rest."""
        records = target.reader.given_up(why, body)
        lost = self._lost(None, f"a body of {body.size} bytes was refused: {why}")
        name = f"refused:{body.fingerprint}"
        await self._intake.store(PushedPart(target.key, name, records, malformed=1, lost=lost))
        refusals = self._config.limits.refusals
        self._emit(PushGivenUp(target.account, target.dataset, why, refusals))
        return "accepted"

    def _note(self, target: Target, rows: int, size: int, oldest_us: int | None) -> None:
        now_us = self._clock.now_us()
        oldest_s = None if oldest_us is None else max(0.0, (now_us - oldest_us) / 1e6)
        self._emit(PushStored(target.account, target.dataset, rows, size, now_us / 1e6, oldest_s))


def _fitting(
    lines: Sequence[bytes | Overlong], room: int
) -> Iterator[tuple[Sequence[bytes | Overlong], int]]:
    """Give the lines up to the one that fills the room, and then a part at a time; with sizes."""
    start = size = 0
    for end, line in enumerate(lines, 1):
        size += len(line)
        if size >= room or end == len(lines):
            yield lines[start:end], size
            start, size, room = end, 0, _PART


async def _alive(_: web.Request) -> web.Response:
    """Answer the health check of a load balancer, which has no secret and may come from anywhere.

    That nothing can be stored at present is no reason to send pushes nowhere: they get 503.
    """
    return web.Response(text="ok\n")


async def _no_push(_: web.Request) -> web.Response:
    text = "only POST is taken, of a batch to /ACCOUNT/DATASET\n"
    return web.Response(status=405, text=text, headers={"Allow": "POST"})


async def _not_yet(_: web.Request) -> None:
    """Say nothing to ``Expect: 100-continue``: the body may not be wanted."""


async def _continue(request: web.Request) -> None:
    """Ask for the body if the client waits for that (RFC 9110, 10.1.1)."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _says_gzip(request: web.Request) -> bool:
    """Return True if a header says gzip; raises ``PushRefusedError`` for what is not unpacked."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding in {"gzip", "x-gzip"}:
        return True
    if encoding in {"", "identity"}:
        return False
    raise PushRefusedError("refused_encoding", 415, "send the body as gzip or as it is")
