"""Pushes the logins of a feed over HTTP as a Logpush job does, and remembers what was taken.

A job collects rows and uploads them in batches: POST, gzip, one JSON object a line. What is not
answered with 200 stays and is uploaded again later with newer rows, so that uploads grow while the
job is behind. Nothing says which rows an upload that got no answer had.
"""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Mapping
from random import Random
from typing import Literal, get_args
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit

import orjson
from aiohttp import BytesPayload, ClientError, ClientSession, ClientTimeout

from forwarder.simulator.faults import ACCESS_REQUESTS
from forwarder.simulator.feed import Feed, read_row
from forwarder.simulator.rows import format_moment, microseconds
from forwarder.simulator.simulator import Simulator

Mishap = Literal["cut", "repeated", "regrouped", "reordered", "bad_line", "no_secret"]
"""An upload that breaks off in the middle; one whose answer was lost, sent again as it was, or with
its rows grouped in another way; rows in any order; a line that is not JSON; an upload without the
header that holds the secret."""
MISHAPS: tuple[Mishap, ...] = get_args(Mishap)

NAMES: Mapping[str, str] = {
    "action": "Action",
    "allowed": "Allowed",
    "app_domain": "AppDomain",
    "app_uid": "AppUUID",
    "connection": "Connection",
    "country": "Country",
    "created_at": "CreatedAt",
    "ip_address": "IPAddress",
    "ray_id": "RayID",
    "user_email": "Email",
    "user_id": "UserUID",
}
"""What the values of a login are called in the dataset."""
_HEADER = "header_"
_TIMEOUT = ClientTimeout(total=30)
_BEHIND = 4
"""How many times larger an upload of a job is that is behind."""
_BAD_LINE = b'{"RayID": "cut'


class Job:
    """A job that pushes to one destination."""

    def __init__(
        self,
        destination: str,
        seed: int,
        *,
        most_rows: int = 1000,
        mishaps: Iterable[Mishap] = (),
        share: float = 0.0,
    ) -> None:
        """Push to an address whose parameters ``header_NAME`` are headers.

        A ``share`` of the uploads, from 0 to 1, has one of the ``mishaps``; ``seed`` decides which.
        """
        parts = urlsplit(destination)
        # Not by parse_qsl: a plus is a plus here, and a space is %20.
        given = [
            (unquote(name), unquote(value))
            for name, _, value in (one.partition("=") for one in parts.query.split("&") if one)
        ]
        rest = urlencode([one for one in given if not one[0].startswith(_HEADER)])
        self.destination = destination
        self._url = urlunsplit(parts._replace(query=rest))
        self._headers = {
            name.removeprefix(_HEADER): value for name, value in given if name.startswith(_HEADER)
        }
        self._random = Random(seed)  # noqa: S311 - no secret  # nosec B311
        self._most_rows = most_rows
        self._mishaps = tuple(mishaps)
        self._share = share
        self._waiting = deque[bytes]()
        self._behind = False
        self.taken: list[bytes] = []
        """The rows of uploads that were answered with 200, in the order of the answers."""
        self.bad_lines = 0
        """Lines that are not JSON, in those uploads."""
        self.happened = Counter[str]()
        """Uploads by the mishap that they had, and answers by their status; 0: none came."""

    @property
    def waiting(self) -> int:
        """Return how many rows no upload has delivered yet."""
        return len(self._waiting)

    def collect(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Take newer logins as the API shows them, to be pushed."""
        for row in rows:
            pushed = {NAMES[key]: value for key, value in row.items() if key in NAMES}
            self._waiting.append(orjson.dumps(pushed))

    async def upload(self, http: ClientSession) -> int:
        """Upload the oldest rows once; return the status, 0 if no answer came."""
        count = min(len(self._waiting), self._most_rows * (_BEHIND if self._behind else 1))
        rows = [self._waiting.popleft() for _ in range(count)]
        mishap = self._mishap()
        if mishap == "reordered":
            self._random.shuffle(rows)
        lines = list(rows)
        if mishap == "bad_line":
            lines.insert(self._random.randint(0, count), _BAD_LINE)
        content = gzip.compress(b"".join(line + b"\n" for line in lines), 1)
        status = await self._post(http, content, mishap)
        if status == 200 and mishap == "repeated":  # noqa: PLR2004
            status = await self._post(http, content, mishap)
        if status == 200 and mishap != "regrouped":  # noqa: PLR2004
            self.taken += rows
            self.bad_lines += mishap == "bad_line"
            self._behind = False
        else:
            self._waiting.extendleft(reversed(rows))
            self._behind = True
        return status

    def _mishap(self) -> Mishap | None:
        if not self._mishaps or self._random.random() >= self._share:
            return None
        mishap = self._random.choice(self._mishaps)
        self.happened[mishap] += 1
        return mishap

    async def _post(self, http: ClientSession, content: bytes, mishap: Mishap | None) -> int:
        headers = {"Content-Encoding": "gzip", "Content-Length": str(len(content))}
        if mishap != "no_secret":
            headers |= self._headers
        data = _broken_off(content) if mishap == "cut" else BytesPayload(content)
        try:
            async with http.post(self._url, data=data, headers=headers, timeout=_TIMEOUT) as answer:
                await answer.read()
                status = answer.status
        except (ClientError, OSError, TimeoutError):
            status = 0
        self.happened[str(status)] += 1
        return status


async def _broken_off(content: bytes) -> AsyncIterator[bytes]:
    yield content[: len(content) // 2]
    # What was sent shall be on the wire before the connection breaks.
    await asyncio.sleep(0.01)
    raise ConnectionResetError


def logins_of(feed: Feed, start: int) -> list[dict[str, object]]:
    """Return the rows of a feed from number ``start`` on, as it has them so far."""
    return [read_row(body) for body in feed.store.bodies[start:]]


async def run(simulator: Simulator, job: Job, interval: float) -> None:
    """Push the logins of a simulator's first account for ever, an upload each ``interval``.

    The API lists the job of that account, with what became of its last upload.
    """
    feed = next(one for one in simulator.feeds() if one.stream == ACCESS_REQUESTS)
    listed = simulator.add_job(
        feed.account,
        dataset=ACCESS_REQUESTS,
        destination_conf=job.destination,
        output_options={"field_names": list(NAMES.values()), "output_type": "ndjson"},
    )
    seen = 0
    async with ClientSession() as http:
        while True:
            now = simulator.advance()
            fresh = logins_of(feed, seen)
            seen += len(fresh)
            job.collect(fresh)
            if job.waiting:
                status = await job.upload(http)
                error = f"error uploading: HTTP {status}" if status else "error uploading"
                taken = status == 200  # noqa: PLR2004
                listed.note(format_moment(microseconds(now), 0), None if taken else error)
            await asyncio.sleep(interval)
