"""Destinations that acknowledge and throw away: ``python -m bench.destinations KIND FOLDER``.

With a third word, a folder, they keep what comes there: a file for each body or piece of a stream.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

import uvloop
from aiohttp import web
from isal import igzip

FRAME = re.compile(rb"(\d+) (\w+) (\d+) ?")
"""The head of a RELP frame: number, command, length of the data behind it."""

_PIECE = 1 << 20
_CREATE = b'{"create"'
_ITEM = b'{"create":{"status":201}}'

Keep = Callable[[bytes], None]
Answer = Callable[[web.Request], Awaitable[web.Response]]


class Destination:
    """The protocols; ``keep`` sees all that comes."""

    def __init__(self, keep: Keep) -> None:
        """Take what to do with bytes before they are forgotten."""
        self._keep = keep

    async def hec(self, request: web.Request) -> web.Response:
        """Take any event."""
        if request.path.endswith("/ack"):
            return web.json_response({"text": "ACK is disabled", "code": 14}, status=400)
        if request.method == "POST":
            self._keep(await request.read())
            return web.json_response({"text": "Success", "code": 0})
        return web.json_response({"text": "HEC is healthy", "code": 17})

    async def bulk(self, request: web.Request) -> web.Response:
        """Create any document."""
        if request.method != "POST":
            return web.json_response({"version": {"number": "9.2.0"}, "tagline": "bench"})
        body = await request.read()
        self._keep(body)
        text: bytes = igzip.decompress(body)  # type: ignore[no-untyped-call]
        items = b",".join([_ITEM] * text.count(_CREATE))
        return web.Response(
            body=b'{"took":1,"errors":false,"items":[' + items + b"]}",
            content_type="application/json",
        )

    async def records(self, request: web.Request) -> web.Response:
        """Take any log record; nothing is rejected."""
        return await self._post(request, web.Response(content_type="application/x-protobuf"))

    async def rule(self, request: web.Request) -> web.Response:
        """Take any row, and give a token to anybody."""
        if request.path.endswith("/token"):
            return web.json_response({"access_token": "bench", "expires_in": 3600})
        return await self._post(request, web.Response(status=204))

    async def _post(self, request: web.Request, answer: web.Response) -> web.Response:
        # A probe is not compressed, and brings no event.
        if "Content-Encoding" in request.headers:
            self._keep(await request.read())
        return answer

    async def bucket(self, request: web.Request) -> web.Response:
        """Take any object; nothing is listed."""
        if request.method != "PUT":
            return web.Response(text="<ListBucketResult/>", content_type="application/xml")
        self._keep(await request.read())
        return web.Response(headers={"ETag": '"bench"'})

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read to the end."""
        while piece := await reader.read(_PIECE):
            self._keep(piece)
        writer.close()

    async def relp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Acknowledge every frame, without looking into it."""
        rest = b""
        while piece := await reader.read(_PIECE):
            self._keep(piece)
            rest += piece
            answers, place = [], 0
            while (head := FRAME.match(rest, place)) and head.end() + int(head[3]) < len(rest):
                word = (
                    b"200 OK relp_version=0\ncommands=syslog" if head[2] == b"open" else b"200 OK"
                )
                answers.append(b"%s rsp %d %s\n" % (head[1], len(word), word))
                place = head.end() + int(head[3]) + 1
            rest = rest[place:]
            writer.write(b"".join(answers))
        writer.close()


def keeper(folder: Path | None) -> Keep:
    """Return what writes each piece to a file of its own, or forgets it."""
    if folder is None:
        return lambda _: None
    numbers, kept = count(), folder

    def keep(piece: bytes) -> None:
        (kept / f"{next(numbers):08}").write_bytes(piece)

    return keep


async def _http_port(answer: Answer) -> int:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: int = runner.addresses[0][1]
    return port


async def serve(kind: str, folder: Path, keep: Keep) -> None:
    """Serve one kind on a free port and print it; certificates lie in ``folder``."""
    destination = Destination(keep)
    answers = {"hec": destination.hec, "bulk": destination.bulk}
    answers |= {"otlp": destination.records, "sentinel": destination.rule}
    answers |= dict.fromkeys(("lake", "lake-parquet"), destination.bucket)
    if kind in answers:
        port = await _http_port(answers[kind])
    else:
        context = None
        if kind == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(folder / "server.pem")
        meet = destination.relp if kind == "relp" else destination.stream
        server = await asyncio.start_server(meet, "127.0.0.1", 0, ssl=context, limit=1 << 22)
        port = server.sockets[0].getsockname()[1]
    print(port, flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve what the command line asks for."""
    kind, folder, *kept = sys.argv[1:]
    uvloop.run(serve(kind, Path(folder), keeper(Path(kept[0]) if kept else None)))


if __name__ == "__main__":
    main()
