"""Certificates and a server that does what a test tells it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import TypeAlias

import pytest
import trustme
from aiohttp import web

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Papers:
    """An authority, and a certificate and key it gave to ``localhost`` and 127.0.0.1."""

    authority: trustme.CA
    folder: Path

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def cert_file(self) -> Path:
        return self.folder / "cert.pem"

    @property
    def key_file(self) -> Path:
        return self.folder / "key.pem"

    def issue(self, *names: str) -> None:
        """Write a new certificate and key in place of the old ones."""
        leaf = self.authority.issue_cert(*names)
        self.cert_file.unlink(missing_ok=True)
        self.key_file.unlink(missing_ok=True)
        self.cert_file.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        self.key_file.write_bytes(leaf.private_key_pem.bytes())


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    papers = Papers(trustme.CA(), tmp_path)
    papers.authority.cert_pem.write_to_path(papers.ca_file)
    papers.issue("localhost", "127.0.0.1")
    return papers


@asynccontextmanager
async def serving(handler: Handler, *, tls: SSLContext | None = None) -> AsyncIterator[str]:
    """Answer every request with ``handler``; gives the URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{'https' if tls else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()
