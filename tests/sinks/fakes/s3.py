"""An S3 service that checks signatures and refuses as the real one does; objects are in memory."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from aiohttp import web

from forwarder.testing.fake_server import FakeServer
from tests.sinks.object_store.lake import ids_in

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d+/[\w-]+/s3/aws4_request), "
    r"SignedHeaders=([\w;-]+), Signature=(\w+)"
)


class FakeS3(FakeServer):
    """One bucket with one key; ``puts`` are the names in the order in which they were written."""

    bucket = "lake"

    def __init__(self) -> None:
        super().__init__()
        self.key_id, self.secret = "AKIAFAKE", "s3cr3t/with+signs"
        self.secrets: Sequence[str] = (self.secret, self.key_id)
        self.may_list = True
        self.objects: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.puts: list[str] = []
        self.different: list[str] = []
        """Names that were written again with other bytes."""

    def delivers(self, request: web.Request) -> bool:
        return request.method == "PUT"

    def arrived(self) -> Mapping[str, int]:
        return Counter(
            identity for name, body in self.objects.items() for identity in ids_in(name, body)
        )

    def save(self, folder: Path) -> None:
        """Write the bucket into a folder, for readers of files."""
        for name, body in self.objects.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        refusal = self._refusal(request, body)
        if refusal:
            return error(*refusal)
        name = unquote(request.raw_path).removeprefix(f"/{self.bucket}/")
        if request.method == "GET":
            return web.Response(
                text=f"<ListBucketResult><Name>{self.bucket}</Name><KeyCount>0</KeyCount>"
                "<IsTruncated>false</IsTruncated></ListBucketResult>",
                content_type="application/xml",
            )
        if self.objects.get(name, body) != body:
            self.different.append(name)
        self.objects[name] = body
        self.types[name] = request.headers["Content-Type"]
        self.puts.append(name)
        return web.Response(headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})

    def _refusal(self, request: web.Request, body: bytes) -> tuple[int, str] | None:
        found = _AUTHORIZATION.fullmatch(request.headers.get("Authorization", ""))
        if found is None:
            return 403, "AccessDenied"
        key_id, scope, signed, signature = found.groups()
        if self.locked or key_id != self.key_id:
            return 403, "InvalidAccessKeyId"
        if signature != sign(request, body, self.secret, scope, signed.split(";")):
            return 403, "SignatureDoesNotMatch"
        if request.path.split("/")[1] != self.bucket:
            return 404, "NoSuchBucket"
        if request.method == "GET" and not self.may_list:
            return 403, "AccessDenied"
        return None


def error(status: int, code: str) -> web.Response:
    """Return an answer as S3 writes it, with the parts that must not be shown."""
    text = (
        f"<Error><Code>{code}</Code><Message>m</Message><AWSAccessKeyId>AKIAFAKE</AWSAccessKeyId>"
        "<StringToSign>AWS4-HMAC-SHA256 s3cr3t/with+signs</StringToSign></Error>"
    )
    return web.Response(status=status, text=text, content_type="application/xml")


def sign(request: web.Request, body: bytes, secret: str, scope: str, signed: Sequence[str]) -> str:
    """Return the signature that a request must have (AWS Signature Version 4)."""
    query = "&".join(
        sorted(
            f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in request.query.items()
        )
    )
    canonical = "\n".join(
        [
            request.method,
            request.raw_path.partition("?")[0],
            query,
            *(f"{name}:{request.headers[name].strip()}" for name in signed),
            "",
            ";".join(signed),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    moment = request.headers["x-amz-date"]
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in [*scope.split("/"), text]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()
