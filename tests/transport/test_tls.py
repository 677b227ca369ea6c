"""TLS contexts follow their files and refuse what cannot work, without ever asking a terminal."""

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from forwarder.core.errors import NeedsOperatorError
from forwarder.transport.settings import TlsSettings
from forwarder.transport.tls import ServerTls, Tls
from tests.transport.conftest import Papers


def test_the_same_context_serves_until_a_file_changes(papers: Papers) -> None:
    tls = Tls(TlsSettings(cert_file=papers.cert_file, key_file=papers.key_file))
    first = tls.context()

    assert tls.context() is first
    papers.issue("other.example")
    assert tls.context() is not first


def test_verification_is_on_unless_it_is_switched_off() -> None:
    strict = Tls(TlsSettings()).context()
    lax = Tls(TlsSettings(verify=False)).context()

    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_lowest_version_is_kept(version: str) -> None:
    context = Tls(TlsSettings.model_validate({"min_version": version})).context()

    assert context.minimum_version.name == f"TLSv{version.replace('.', '_')}"


def test_the_name_to_verify_can_differ_from_the_host() -> None:
    assert Tls(TlsSettings()).name_for("10.0.0.1") == "10.0.0.1"
    assert Tls(TlsSettings(server_name="splunk.corp")).name_for("10.0.0.1") == "splunk.corp"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    tls = Tls(TlsSettings(ca_file=tmp_path / "nowhere.pem"))

    with pytest.raises(NeedsOperatorError, match=r"nowhere\.pem"):
        tls.context()


def test_what_is_no_certificate_asks_for_a_person_until_it_is_mended(papers: Papers) -> None:
    tls = Tls(TlsSettings(cert_file=papers.cert_file, key_file=papers.key_file))
    tls.context()
    papers.cert_file.write_text("half a file")

    for _ in range(2):
        with pytest.raises(NeedsOperatorError, match=r"cert\.pem"):
            tls.context()

    papers.issue("localhost")
    tls.context()


def test_a_key_with_a_password_is_refused_instead_of_asked_for(papers: Papers) -> None:
    plain = serialization.load_pem_private_key(papers.key_file.read_bytes(), None)
    papers.key_file.write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"open sesame"),
        )
    )

    with pytest.raises(NeedsOperatorError, match="TLS files cannot be used"):
        Tls(TlsSettings(cert_file=papers.cert_file, key_file=papers.key_file)).context()


def test_a_server_with_an_authority_demands_certificates(papers: Papers) -> None:
    open_to_all = TlsSettings(cert_file=papers.cert_file, key_file=papers.key_file)
    strict = open_to_all.model_copy(update={"ca_file": papers.ca_file})

    assert ServerTls(open_to_all).context().verify_mode is ssl.CERT_NONE
    assert ServerTls(strict).context().verify_mode is ssl.CERT_REQUIRED
