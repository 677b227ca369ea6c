"""The HTTP side: routes, and how a reply, whole or harmed, gets onto the wire."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from itertools import count
from socket import SO_LINGER, SOL_SOCKET

from aiohttp import hdrs, web

from forwarder.simulator.answers import THROTTLED
from forwarder.simulator.cloud import Cloud
from forwarder.simulator.control import control_routes
from forwarder.simulator.exchange import Question, Reply, answer, refuse
from forwarder.simulator.faults import DELAYING, HEADING, Target
from forwarder.simulator.names import ACCESS_REQUESTS, IDENTITY_PROVIDERS, SCIM_UPDATES, VERIFY

ROUTES = {
    "/client/v4/accounts/{account}/access/logs/access_requests": ACCESS_REQUESTS,
    "/client/v4/accounts/{account}/access/logs/scim/updates": SCIM_UPDATES,
    "/client/v4/accounts/{account}/access/identity_providers": IDENTITY_PROVIDERS,
    "/client/v4/accounts/{account}/tokens/verify": VERIFY,
    "/client/v4/user/tokens/verify": VERIFY,
}
FIRST_RAY = 0x8A1C_5E2F_0000_0000
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(cloud: Cloud) -> web.Application:
    """Return the application that serves a cloud, and the control requests beside it."""
    app = web.Application()
    rays = count(FIRST_RAY)
    app.add_routes(control_routes(cloud))
    for path, endpoint in ROUTES.items():
        app.router.add_get(path, _handler(cloud, endpoint, rays), allow_head=False)
    app.router.add_route("*", "/{rest:.*}", _handler(cloud, "unknown", rays))
    app.on_response_prepare.append(_drop_absent_date)
    return app


def _handler(cloud: Cloud, endpoint: str, rays: count[int]) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        now = cloud.advance()
        question = Question(
            endpoint, request.match_info.get("account"), request.path_qs, request.query,
            request.headers,
        )  # fmt: skip
        verdict = cloud.limiter.charge(_client(request), now)
        admitted = verdict is None or verdict.allowed
        reply = answer(cloud, question) if admitted else refuse(THROTTLED)
        headers = {
            "cf-ray": f"{next(rays):016x}-AMS",
            hdrs.DATE: _date(cloud, question.target, now),
            **cloud.limiter.headers(verdict),
            **reply.headers,
        }
        cloud.visits.note(now, endpoint, request.path_qs, 0 if reply.silence else reply.status)
        for fault in cloud.faults.all(question.target, DELAYING) if admitted else ():
            await _wait(cloud, fault.seconds)
        return await _send(cloud, request, reply, headers)

    return handle


def _client(request: web.Request) -> str:
    """Return what the quota is counted by: the credentials, or else the address."""
    headers = request.headers
    return headers.get("Authorization") or headers.get("X-Auth-Key") or request.remote or ""


def _date(cloud: Cloud, target: Target, now: float) -> str:
    for fault in cloud.faults.all(target, HEADING):
        if fault.kind == "no_date":
            return ""
        now += fault.seconds
    return formatdate(now, usegmt=True)


async def _drop_absent_date(_request: web.Request, response: web.StreamResponse) -> None:
    """Take the empty `Date` out again, which aiohttp would otherwise have filled in."""
    if not response.headers.get(hdrs.DATE):
        response.headers.popall(hdrs.DATE, None)


async def _wait(cloud: Cloud, seconds: float | None) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(cloud.closing.wait(), seconds)


async def _send(
    cloud: Cloud, request: web.Request, reply: Reply, headers: dict[str, str]
) -> web.StreamResponse:
    if reply.silence is not None:
        return await _keep_silent(cloud, request, reply.silence)
    if reply.damage == "cut_off":
        return await _cut_off(request, reply, headers)
    body = reply.body[: len(reply.body) // 2] if reply.damage == "truncated" else reply.body
    response = web.Response(
        status=reply.status, body=body, headers=headers, content_type=reply.content_type
    )
    with suppress(ConnectionError):
        await response.prepare(request)
        await response.write_eof()
        if reply.feed is not None and reply.page is not None:
            reply.feed.oracle.note(reply.page.numbers, cloud.clock.now())
            reply.feed.last_page = reply.page
    return response


async def _keep_silent(cloud: Cloud, request: web.Request, how: str) -> web.StreamResponse:
    transport = request.transport
    if how == "hang":
        await _wait(cloud, None)
    elif transport is not None:
        transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, RESET_ON_CLOSE)
    if transport is not None:
        transport.abort()
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def _cut_off(
    request: web.Request, reply: Reply, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=headers)
    response.content_type = reply.content_type
    response.content_length = len(reply.body)
    with suppress(ConnectionError):
        await response.prepare(request)
        await response.write(reply.body[: len(reply.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
