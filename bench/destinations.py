"""Destinations that acknowledge and throw away: ``python -m bench.destinations KIND``."""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
from pathlib import Path

from aiohttp import web

_CHUNK = 64 * 1024
_FRAME = re.compile(rb"(\d+) (\w+) (\d+) ?")


async def _hec(request: web.Request) -> web.Response:
    if request.path.endswith("/ack"):
        return web.json_response({"text": "ACK is disabled", "code": 14}, status=400)
    if request.method == "POST":
        async for _ in request.content.iter_chunked(_CHUNK):
            pass
        return web.json_response({"text": "Success", "code": 0})
    return web.json_response({"text": "HEC is healthy", "code": 17})


async def _bulk(request: web.Request) -> web.Response:
    if request.method != "POST":
        return web.json_response({"version": {"number": "9.2.0"}, "tagline": "bench"})
    body = await request.read()
    item = b'{"create":{"status":201}}'
    count = body.count(b'{"create"')
    answer = b'{"took":1,"errors":false,"items":[' + b",".join([item] * count) + b"]}"
    return web.Response(body=answer, content_type="application/json")


async def _swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1 << 20):
        pass
    writer.close()


async def _relp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Acknowledge every frame, without looking into it."""
    rest = b""
    while chunk := await reader.read(1 << 20):
        rest += chunk
        answers, place = [], 0
        while (frame := _FRAME.match(rest, place)) and frame.end() + int(frame[3]) < len(rest):
            word = b"200 OK relp_version=0\ncommands=syslog" if frame[2] == b"open" else b"200 OK"
            answers.append(b"%s rsp %d %s\n" % (frame[1], len(word), word))
            place = frame.end() + int(frame[3]) + 1
        rest = rest[place:]
        writer.write(b"".join(answers))
    writer.close()


async def _http_port(handler: object) -> int:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handler)  # type: ignore[arg-type]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: int = runner.addresses[0][1]
    return port


async def _stream_port(handler: object, context: ssl.SSLContext | None = None) -> int:
    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context, limit=1 << 22)  # type: ignore[arg-type]
    port: int = server.sockets[0].getsockname()[1]
    return port


async def serve(kind: str, folder: Path) -> None:
    """Serve one kind on a free port and print it; certificates lie in ``folder``."""
    if kind == "hec":
        port = await _http_port(_hec)
    elif kind == "bulk":
        port = await _http_port(_bulk)
    elif kind == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        port = await _stream_port(_swallow, context)
    else:
        port = await _stream_port(_relp if kind == "relp" else _swallow)
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(serve(sys.argv[1], Path(sys.argv[2])))
    except ImportError:
        asyncio.run(serve(sys.argv[1], Path(sys.argv[2])))
