"""The admin server over TLS: a renewed certificate needs no restart, a broken one hurts nobody."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from aiohttp import ClientError, ClientSession

from forwarder.admin.server import AdminServer, Verdict
from forwarder.config.models import AdminSettings
from forwarder.core.errors import ConfigError
from forwarder.core.telemetry import CertificateSeen, TelemetryEvent
from forwarder.observe.events import AdminTlsUnusable
from forwarder.runtime.daemon import admin_tls
from forwarder.transport.settings import ServerTlsSettings
from tests.admin.conftest import FakeDaemon


@dataclass
class Site:
    """Files of a certificate authority, and a server that uses them."""

    folder: Path
    authority: trustme.CA = field(default_factory=trustme.CA)
    events: list[TelemetryEvent] = field(default_factory=list)
    url: str = ""

    def renew(self) -> bytes:
        """Write a fresh certificate with its key; return it as it goes over the wire."""
        issued = self.authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(str(self.folder / "tls.key"))
        pem = issued.cert_chain_pems[0].bytes()
        (self.folder / "tls.crt").write_bytes(pem)
        return ssl.PEM_cert_to_DER_cert(pem.decode())

    def settings(self, *, clients: bool = False) -> AdminSettings:
        ca_file = self.folder / "ca.crt"
        self.authority.cert_pem.write_to_path(str(ca_file))
        tls = ServerTlsSettings(
            cert_file=self.folder / "tls.crt",
            key_file=self.folder / "tls.key",
            ca_file=ca_file if clients else None,
        )
        return AdminSettings(listen="127.0.0.1:0", tls=tls)

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    async def shown(self) -> bytes | None:
        """Return the certificate that a new connection gets."""
        port = int(self.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=self.client())
        found: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return found


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    made.renew()
    server = AdminServer(FakeDaemon(), tls=admin_tls(made.settings(), made.events.append))
    made.url = await server.start("127.0.0.1", 0)
    yield made
    await server.aclose()


async def test_it_speaks_https_and_nothing_else(site: Site) -> None:
    async with ClientSession() as http:
        async with http.get(site.url + "/readyz", ssl=site.client()) as answer:
            assert answer.status == 200
        with pytest.raises(ClientError):
            await http.get(site.url.replace("https", "http") + "/readyz")

    assert site.url.startswith("https://127.0.0.1:")


async def test_a_renewed_certificate_is_shown_to_the_next_connection(site: Site) -> None:
    before = await site.shown()
    renewed = site.renew()

    assert await site.shown() == renewed != before
    assert {type(event) for event in site.events} == {CertificateSeen}


async def test_a_broken_renewal_is_told_and_the_old_certificate_stays(site: Site) -> None:
    before = await site.shown()
    (site.folder / "tls.crt").write_text("half of a certifi")

    assert await site.shown() == before
    told = site.events[-1]
    assert [type(event) for event in site.events[:-1]] == [CertificateSeen] * 2
    assert isinstance(told, AdminTlsUnusable)
    assert "tls.crt" in told.error


async def test_with_authorities_only_their_certificates_get_in(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.renew()
    server = AdminServer(
        FakeDaemon(readiness=Verdict(well=True)), tls=admin_tls(site.settings(clients=True), print)
    )
    url = await server.start("127.0.0.1", 0)
    known = site.client()
    site.authority.issue_cert("prometheus").configure_cert(known)
    stranger = site.client()
    trustme.CA().issue_cert("prometheus").configure_cert(stranger)
    async with ClientSession() as http:
        async with http.get(url + "/livez", ssl=known) as answer:
            assert answer.status == 200
        for context in (site.client(), stranger):
            with pytest.raises((ClientError, ConnectionError)):
                await http.get(url + "/livez", ssl=context)
    await server.aclose()


async def test_files_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"admin\.tls: TLS files cannot be used .*tls\.crt"):
        admin_tls(Site(tmp_path).settings(), print)


async def test_without_tls_there_is_no_context() -> None:
    assert admin_tls(AdminSettings(), print) is None


async def test_who_never_finishes_the_handshake_is_closed(site: Site) -> None:
    port = int(site.url.rpartition(":")[2])
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", port)) as silent:
        silent.settimeout(0)
        assert await asyncio.wait_for(loop.sock_recv(silent, 1), 60) == b""
