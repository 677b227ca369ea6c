"""A Cloudflare API in a few lines that can misbehave in every way the machine knows, and its truth.

It answers below `Api`'s parsing, budget and error table: bytes, status and headers.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from forwarder.core.masking import MASK, UNREADABLE
from forwarder.core.timing import format_seconds, format_us, parse_us
from forwarder.sources.cloudflare_access.account import AccountConfig
from forwarder.sources.cloudflare_access.answers import Endpoint, Response
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.rate_limit import RateLimiter
from tests.ingest.virtual_time import VirtualClock

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
_REFUSALS: dict[str, tuple[int, int, dict[str, str]]] = {
    "throttled": (429, 971, {"retry-after": "7"}),
    "unsuccessful": (200, 10000, {}),
    "denied": (403, 10000, {}),
    "broken": (500, 0, {}),
}
TOTAL_COUNT = 0
"""What Cloudflare was seen to say beside 25 rows."""
SECRET = "hunter2"
"""What may be in a served row, but never in a stored one."""


@dataclass(frozen=True)
class Manners:
    """How this API reads and answers queries, for good."""

    inclusive_since: bool = True
    inclusive_until: bool = True
    whole_seconds: bool = False
    ignores_page: bool = False
    order: str = "asc"
    widens_by_us: int = 0
    cap: int = 1000
    tells_cap: bool = True


@dataclass
class Row:
    """One instance: where it lies, what it says, from when on it is shown."""

    number: int
    place_us: int
    body: dict[str, Any]
    visible_us: int


@dataclass
class Cloudflare:
    """Rows, manners, what goes wrong next, and what was shown."""

    clock: VirtualClock
    manners: Manners = Manners()
    retention_us: int = DAY_US
    rows: list[Row] = field(default_factory=list)
    new_keys: list[str] = field(default_factory=list)
    faults: deque[str] = field(default_factory=deque)
    between: deque[Callable[[], None] | None] = field(default_factory=deque)
    shown: Counter[bytes] = field(default_factory=Counter)
    latest: deque[set[bytes]] = field(default_factory=lambda: deque(maxlen=2))
    requests: list[dict[str, str]] = field(default_factory=list)
    expired_until_us: int = 0
    skew_us: int = 0
    providers: dict[str, bool] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    refusals: int = 0
    listings: int = 0
    asked: set[str] = field(default_factory=set)
    unlisted: deque[str] = field(default_factory=deque)
    time_key: str = "created_at"
    _last: tuple[list[dict[str, Any]], int, list[str]] | None = None
    _numbers: Any = field(default_factory=count)

    def add(
        self, place_us: int, created_at: Any, *, late_us: int = 0, **values: Any
    ) -> dict[str, Any]:
        """Add an instance that is visible `late_us` after now."""
        number = next(self._numbers)
        body = {self.time_key: created_at, "ray_id": f"{number:016x}", "action": "login", **values}
        self.rows.append(Row(number, place_us, body, self.clock.true_us + late_us))
        return body

    def expire(self, until_us: int) -> None:
        """Let all rows before a moment be gone."""
        self.expired_until_us = max(self.expired_until_us, until_us)

    def survivors(self, wanted: Callable[[Row], bool]) -> set[bytes]:
        """Return the wanted ones of the rows that are still shown to whoever asks."""
        return {self.stripped(row.body) for row in self._visible() if wanted(row)}

    def answer(self, path: str, params: Sequence[tuple[str, str]]) -> Response:
        """Return what one request gets."""
        self.clock.activity += 1
        act = self.between.popleft() if self.between else None
        if act is not None:
            act()
        if not path.endswith(("access_requests", "updates")):
            return self._aside(path)
        self.requests.append(dict(params))
        fault = self.faults.popleft() if self.faults else ""
        ids = [value for name, value in params if name == "idp_id"]
        self.asked.update(ids)
        is_refused = not self.refused.isdisjoint(ids)
        self.refusals += is_refused
        if fault in _REFUSALS or is_refused:
            return self._error(*_REFUSALS.get(fault, (400, 12130, {})))
        if fault == "html":
            return Response(502, self._headers(), b"<html>bad gateway</html>")
        rows, size = self._select(dict(params), ids)
        if fault == "repeated" and self._last is not None and self._last[2] == ids:
            rows, size, _ = self._last
        self._last = rows, size, ids
        info = {"per_page": size, "total_count": TOTAL_COUNT}
        body = orjson.dumps({"success": True, "result": rows, "result_info": info})
        if fault == "truncated":
            return Response(200, self._headers(), body[: len(body) // 2])
        self._note(rows)
        shift_us = {"ahead": DAY_US, "behind": -DAY_US}.get(fault, 0)
        return Response(200, {} if fault == "no_date" else self._headers(shift_us), body)

    def stripped(self, body: Mapping[str, Any]) -> bytes:
        """Return a row without the keys that came later and without secrets, canonically."""
        early = {key: body[key] for key in body if key not in self.new_keys}
        secret = str(early.get("request_body"))
        if SECRET in secret or MASK in secret or secret == UNREADABLE:
            early["request_body"] = MASK
        return orjson.dumps(early, option=orjson.OPT_SORT_KEYS)

    def _visible(self) -> list[Row]:
        now_us = self.clock.true_us
        floor_us = max(self.expired_until_us, now_us - self.retention_us)
        return sorted(
            (r for r in self.rows if r.visible_us <= now_us and r.place_us >= floor_us),
            key=lambda r: (r.place_us, r.number),
        )

    def _select(
        self, params: Mapping[str, str], ids: Sequence[str]
    ) -> tuple[list[dict[str, Any]], int]:
        manners = self.manners
        since_us, until_us = parse_us(params["since"]) or 0, parse_us(params["until"]) or 0
        if manners.whole_seconds:
            since_us = since_us // SECOND_US * SECOND_US
        since_us, until_us = since_us - manners.widens_by_us, until_us + manners.widens_by_us
        low = since_us if manners.inclusive_since else since_us + 1
        high = until_us if manners.inclusive_until else until_us - 1
        found = [r for r in self._visible() if low <= r.place_us <= high]
        if ids:
            found = [r for r in found if r.body.get("idp_id") in ids]
        if manners.order == "desc":
            found.reverse()
        size = min(int(params["per_page"]), int(params["limit"]), manners.cap)
        page = 1 if manners.ignores_page else int(params["page"])
        chosen = found[(page - 1) * size : page * size]
        if manners.order == "mixed":
            chosen = chosen[1::2] + chosen[::2]
        told = size if manners.tells_cap else int(params["per_page"])
        return [self._served(row) for row in chosen], told

    def _served(self, row: Row) -> dict[str, Any]:
        return row.body | dict.fromkeys(self.new_keys, row.body["ray_id"][-1])

    def _note(self, rows: Sequence[Mapping[str, Any]]) -> None:
        counted = Counter(map(self.stripped, rows))
        self.latest.append(set(counted))
        for body, times in counted.items():
            self.shown[body] = max(self.shown[body], times)

    def _headers(self, shift_us: int = 0) -> dict[str, str]:
        now_s = (self.clock.true_us + self.skew_us + shift_us) // SECOND_US
        return {"date": formatdate(now_s, usegmt=True)}

    def _error(self, status: int, code: int, headers: dict[str, str]) -> Response:
        errors = [{"code": code, "message": "as scripted"}]
        body = orjson.dumps({"success": False, "errors": errors, "result": None})
        return Response(status, self._headers() | headers, body)

    def _aside(self, path: str) -> Response:
        self.listings += path.endswith("identity_providers")
        result: Any = {"id": "1", "status": "active"}
        if path.endswith("identity_providers") and self.unlisted:
            return self._error(*_REFUSALS[self.unlisted.popleft()])
        if path.endswith("identity_providers"):
            result = [
                {"id": id_, "name": id_, "type": "okta", "scim_config": {"enabled": on}}
                for id_, on in self.providers.items()
            ]
        body = orjson.dumps({"success": True, "result": result})
        return Response(200, self._headers(), body)


class ScriptedApi(Api):
    """The real API client, with `Cloudflare` where the network would be."""

    def __init__(self, cloudflare: Cloudflare, config: AccountConfig, clock: VirtualClock) -> None:
        super().__init__(config, RateLimiter(clock), clock)
        self._cloudflare = cloudflare

    async def _send(
        self, url: str, endpoint: Endpoint, waited: float, largest: int, body: bytes | None
    ) -> Response:
        del endpoint, waited, largest, body
        parts = urlsplit(url)
        return self._cloudflare.answer(parts.path, parse_qsl(parts.query))


def created_at(time_us: int, digits: int) -> str:
    """Return a time as the API may write it, with 0 to 6 digits after the second."""
    if not digits:
        return format_seconds(time_us)
    return format_us(time_us)[: len("2026-01-01T00:00:00.") + digits] + "Z"
