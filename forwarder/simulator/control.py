"""Control requests below `/_simulator/`, for tests in another process.

GET    shown      the oracle as NDJSON: account, stream, first_shown, and row (or raw: base64)
                  ?account= ?stream= select; ?expected=true: twins only as often as seen at once
                  of jit_requests the steps, of non_identity_logins the groups (no first_shown)
GET    requests   counts, last requests, most requests in any ?window= seconds (default 300)
GET    state      clock, rows, providers, faults in force, times throttled
POST   faults     one fault or a list, as JSON objects with the fields of `Fault`
DELETE faults     all, or ?kind=
POST   rows       {account, stream, rows: [...], raw: [base64, ...], visible_at | visible_in}
POST   amend      {account, stream, number, changes}
POST   idps       {account, action: add | remove | enable | disable | refuse | accept, id | idp}
POST   jobs       {owner: id of an account or a zone, and fields of `PushJob`}
POST   tokens     {action: admit | revoke, value, permissions?, accounts?, kind?, status?}
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web

from forwarder.simulator.cloud import Cloud
from forwarder.simulator.company import IdentityProvider
from forwarder.simulator.faults import JIT_REQUESTS, NON_IDENTITY_LOGINS, Fault
from forwarder.simulator.feed import Feed, Sighting
from forwarder.simulator.settings import Token
from forwarder.simulator.temporary_access import STEP_KEYS

# What content of the wrong shape raises below; everything else is a fault of ours.
MALFORMED = (LookupError, TypeError, ValueError)

Command = Callable[[Cloud, Any], Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def control_routes(cloud: Cloud) -> list[web.RouteDef]:
    """Return the control routes of a cloud."""

    async def shown(request: web.Request) -> web.StreamResponse:
        cloud.advance()
        return await _send_lines(request, _shown_lines(cloud, request))

    async def requests(request: web.Request) -> web.Response:
        return _json(_requests(cloud, float(request.query.get("window", "300"))))

    async def state(_request: web.Request) -> web.Response:
        return _json(_state(cloud))

    async def end_faults(request: web.Request) -> web.Response:
        script = cloud.faults
        script.remove(request.query.get("kind"))
        return _json(_faults(cloud))

    return [
        web.get("/_simulator/shown", shown),
        web.get("/_simulator/requests", requests),
        web.get("/_simulator/state", state),
        web.delete("/_simulator/faults", end_faults),
        *(
            web.post(f"/_simulator/{name}", _commanded(cloud, command))
            for name, command in COMMANDS.items()
        ),
    ]


def _commanded(cloud: Cloud, command: Command) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            content = orjson.loads(await request.read())
            cloud.advance()
            return _json(command(cloud, content))
        except MALFORMED as error:
            return _json({"error": f"{type(error).__name__}: {error}"}, status=400)

    return handle


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(content), content_type="application/json")


async def _send_lines(request: web.Request, lines: Iterable[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    waiting: list[bytes] = []
    for line in lines:
        waiting.append(line)
        if len(waiting) == 1000:  # noqa: PLR2004 - some hundred kilobytes a write
            await response.write(b"".join(waiting))
            waiting.clear()
    await response.write_eof(b"".join(waiting))
    return response


def _shown_lines(cloud: Cloud, request: web.Request) -> Iterator[bytes]:
    account, stream = request.query.get("account"), request.query.get("stream")
    for name in (one for one in cloud.settings.accounts if account in (None, one)):
        if stream in (None, JIT_REQUESTS):
            for step in cloud.board(name).shown:
                row = dict(zip(STEP_KEYS, step, strict=True))
                yield _line({"account": name, "stream": JIT_REQUESTS, "row": row})
        if stream in (None, NON_IDENTITY_LOGINS):
            for group in cloud.analytics(name).shown.values():
                yield _line({"account": name, "stream": NON_IDENTITY_LOGINS, "row": group})
    for feed in cloud.feeds():
        if account in (None, feed.account) and stream in (None, feed.stream):
            expected = request.query.get("expected") == "true"
            sightings = feed.oracle.expected() if expected else feed.oracle.sightings()
            yield from (_shown_line(feed, sighting) for sighting in sightings)


def _shown_line(feed: Feed, seen: Sighting) -> bytes:
    line = {"account": feed.account, "stream": feed.stream, "first_shown": seen.first_shown}
    try:
        # A row that no JSON reader accepts travels as base64.
        orjson.loads(seen.body)
    except orjson.JSONDecodeError:
        return _line({**line, "raw": b64encode(seen.body).decode()})
    return _line({**line, "row": orjson.Fragment(seen.body)})


def _line(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content) + b"\n"


def _requests(cloud: Cloud, window: float) -> dict[str, Any]:
    log = cloud.requests
    return {
        "counts": dict(log.counts),
        "statuses": {str(status): number for status, number in log.statuses.items()},
        "window": window,
        "busiest": log.busiest(window),
        "busiest_of": {endpoint: log.busiest(window, endpoint) for endpoint in log.counts},
        "last": [asdict(request) for request in log.last],
    }


def _state(cloud: Cloud) -> dict[str, Any]:
    now = cloud.advance()
    return {
        "now": now,
        "accounts": {
            account: [one.as_json() for one in cloud.directory(account).listed()]
            for account in cloud.settings.accounts
        },
        "streams": [
            {
                "account": feed.account,
                "stream": feed.stream,
                "rows": len(feed.store),
                "visible": len(feed.window(None, None)),
                "pending": feed.store.pending,
                "shown": feed.oracle.shown,
            }
            for feed in cloud.feeds()
        ],
        "faults": _faults(cloud),
        "times_throttled": cloud.limiter.exceeded,
        "blocked_clients": cloud.limiter.blocked(now),
    }


def _faults(cloud: Cloud) -> list[dict[str, Any]]:
    return [{**asdict(fault), "struck": struck} for fault, struck in cloud.faults.active()]


def _add_faults(cloud: Cloud, content: Any) -> list[dict[str, Any]]:
    described = content if isinstance(content, list) else [content]
    script = cloud.faults
    script.add(*(Fault(**fields) for fields in described))
    return _faults(cloud)


def _add_rows(cloud: Cloud, content: Any) -> dict[str, Any]:
    visible_at = content.get("visible_at")
    if "visible_in" in content:
        visible_at = cloud.clock.now() + content["visible_in"]
    rows = [
        *content.get("rows", ()),
        *(b64decode(text, validate=True) for text in content.get("raw", ())),
    ]
    feed = cloud.feed(content["account"], content["stream"])
    return {"numbers": [feed.add(row, visible_at) for row in rows]}


def _amend(cloud: Cloud, content: Any) -> dict[str, Any]:
    account, stream = content["account"], content["stream"]
    return {"number": cloud.amend(account, stream, content["number"], content["changes"])}


def _change_idps(cloud: Cloud, content: Any) -> list[dict[str, Any]]:
    directory = cloud.directory(content["account"])
    match content["action"]:
        case "add":
            directory.add(IdentityProvider(**content["idp"]))
        case "remove":
            directory.remove(content["id"])
        case "enable" | "disable":
            directory.switch(content["id"], scim=content["action"] == "enable")
        case "refuse" | "accept":
            directory.refuse(content["id"], refused=content["action"] == "refuse")
        case action:
            raise ValueError(f"{action!r} is not an action on identity providers")
    return [provider.as_json() for provider in directory.listed()]


def _add_job(cloud: Cloud, content: Any) -> dict[str, Any]:
    return asdict(cloud.add_job(**content))


def _change_tokens(cloud: Cloud, content: Any) -> dict[str, Any]:
    fields = dict(content)
    action = fields.pop("action")
    if action == "revoke":
        cloud.revoke(fields["value"])
    elif action == "admit":
        lists = {"permissions", "accounts"} & fields.keys()
        cloud.admit(Token(**{**fields, **{n: frozenset(fields[n]) for n in lists}}))
    else:
        raise ValueError(f"{action!r} is not an action on tokens")
    return {"done": action}


COMMANDS: dict[str, Command] = {
    "faults": _add_faults,
    "rows": _add_rows,
    "amend": _amend,
    "idps": _change_idps,
    "jobs": _add_job,
    "tokens": _change_tokens,
}
