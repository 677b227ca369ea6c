"""A client of the simulator's API that hides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from forwarder.simulator import DEFAULT_ACCOUNT, DEFAULT_TOKEN

PATHS = {
    "access_requests": "access/logs/access_requests",
    "scim_updates": "access/logs/scim/updates",
    "identity_providers": "access/identity_providers",
}
Params = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.raw)

    @property
    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.json["result"]
        return rows

    @property
    def code(self) -> int:
        code: int = self.json["errors"][0]["code"]
        return code


class Reader:
    """One token's view of one simulator; a connection for every request, nothing is retried."""

    def __init__(self, url: str, token: str = DEFAULT_TOKEN) -> None:
        self.url = url
        self.token = token

    async def get(
        self, path: str, params: Params = (), headers: Mapping[str, str] | None = None
    ) -> Answer:
        sent = {"Authorization": f"Bearer {self.token}"} if headers is None else headers
        return await self.send("GET", f"{self.url}{path}", params=params, headers=sent)

    async def read(
        self, stream: str, params: Params = (), *, account: str = DEFAULT_ACCOUNT
    ) -> Answer:
        return await self.get(f"/accounts/{account}/{PATHS[stream]}", params)

    async def control(self, method: str, name: str, content: Any = None) -> Answer:
        url = f"{self.url.removesuffix('/client/v4')}/_simulator/{name}"
        return await self.send(method, url, data=None if content is None else orjson.dumps(content))

    async def send(self, method: str, url: str, **options: Any) -> Answer:
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, url, allow_redirects=False, **options) as response,
        ):
            return Answer(response.status, response.headers, await response.read())
