"""TLS contexts follow their files and refuse what cannot work, without ever asking a terminal."""

import asyncio
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.telemetry import CertificateSeen, TelemetryEvent
from forwarder.transport.settings import TlsSettings
from forwarder.transport.tls import ServerTls, Tls, explain_tls, validity
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


def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    """OpenSSL would stop the event loop until somebody writes into it."""
    os.mkfifo(tmp_path / "ca")

    with pytest.raises(NeedsOperatorError, match="it is not a regular file"):
        Tls(TlsSettings(ca_file=tmp_path / "ca")).context()


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


def key_and_name(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Name]:
    attribute = x509.NameAttribute(x509.NameOID.COMMON_NAME, name)
    return ec.generate_private_key(ec.SECP256R1()), x509.Name([attribute])


def write_chain(folder: Path, *, days: tuple[int, int] = (-1, 1)) -> None:
    """Write ca.pem and a leaf for localhost without an Authority Key Identifier."""
    now = datetime.now(UTC)
    ca_key, ca_name = key_and_name("authority")
    leaf_key, leaf_name = key_and_name("localhost")

    def begun(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            ca_name, subject, key.public_key(), x509.random_serial_number()
        )

    ca = (
        begun(ca_name, ca_key)
        .not_valid_before(now - timedelta(9))
        .not_valid_after(now + timedelta(9))
    )
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    leaf = begun(leaf_name, leaf_key).not_valid_before(now + timedelta(days[0]))
    leaf = leaf.not_valid_after(now + timedelta(days[1]))
    dns = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    leaf = leaf.add_extension(dns, critical=False)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    (folder / "cert.pem").write_bytes(leaf.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    (folder / "key.pem").write_bytes(
        leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> None:
    """Shake hands in memory; raises what the client raises."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=name)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def complaint(folder: Path, name: str = "localhost", **settings: object) -> TransientError | None:
    """Return our error of a handshake with the files in ``folder``, or None."""
    own = TlsSettings(cert_file=folder / "cert.pem", key_file=folder / "key.pem")
    ours = TlsSettings.model_validate({"ca_file": folder / "ca.pem", **settings})
    try:
        handshake(ServerTls(own).context(), Tls(ours).context(), name)
    except ssl.SSLError as error:
        return explain_tls(error, "siem:6514")
    return None


def test_a_certificate_without_a_key_identifier_is_accepted_unless_strict_is_set(
    tmp_path: Path,
) -> None:
    """Python 3.13 would refuse it by default, 3.11 accept it: here it is a setting."""
    write_chain(tmp_path)

    strict = complaint(tmp_path, strict=True)

    assert complaint(tmp_path) is None
    assert isinstance(strict, NeedsOperatorError)
    assert "breaks a strict rule of RFC 5280: Missing Authority Key Identifier" in str(strict)
    assert "tls.strict: false" in strict.hint
    assert "docs/certificates.md" in strict.hint


def test_flags_of_verification_do_not_depend_on_the_version_of_python() -> None:
    flags = Tls(TlsSettings()).context().verify_flags

    assert not flags & ssl.VERIFY_X509_STRICT
    assert flags & ssl.VERIFY_X509_PARTIAL_CHAIN


@pytest.mark.parametrize(
    ("write", "name", "said", "hint"),
    [
        (lambda folder: write_chain(folder, days=(-9, -1)), "localhost", "expired", "renew"),
        (lambda folder: write_chain(folder, days=(1, 9)), "localhost", "not valid yet", "clock"),
        (write_chain, "other.example", "for another name", "tls.server_name"),
    ],
)
def test_an_error_says_which_check_failed_and_what_to_do(
    tmp_path: Path, write: Callable[[Path], None], name: str, said: str, hint: str
) -> None:
    write(tmp_path)

    found = complaint(tmp_path, name)

    assert isinstance(found, NeedsOperatorError)
    assert "the certificate of siem:6514" in str(found)
    assert said in str(found)
    assert hint in found.hint


def test_an_unknown_authority_is_named_as_the_fault(tmp_path: Path, papers: Papers) -> None:
    write_chain(tmp_path)
    papers.authority.cert_pem.write_to_path(tmp_path / "other.pem")

    found = complaint(tmp_path, ca_file=tmp_path / "other.pem")

    assert "unknown authority" in str(found)
    assert isinstance(found, NeedsOperatorError)
    assert "tls.ca_file" in found.hint


def test_an_intermediate_certificate_in_the_ca_file_is_trusted(papers: Papers) -> None:
    middle = papers.authority.create_child_ca()
    leaf = middle.issue_cert("localhost")
    middle.cert_pem.write_to_path(papers.ca_file)
    papers.cert_file.write_bytes(leaf.cert_chain_pems[0].bytes())
    papers.key_file.write_bytes(leaf.private_key_pem.bytes())

    assert complaint(papers.folder) is None


def der_of(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificates(path.read_bytes())[0]


@pytest.mark.parametrize("year", [1950, 1999, 2000, 2049, 2050, 9999])
def test_the_validity_of_a_certificate_is_read(year: int) -> None:
    """A time has two digits of its year until 2049, and four afterwards."""
    key, name = key_and_name("siem")
    last = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    begun = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    begun = begun.public_key(key.public_key()).serial_number(2**150)
    begun = begun.not_valid_before(datetime(1950, 1, 2, tzinfo=UTC)).not_valid_after(last)
    der = begun.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    assert validity(der) == (datetime(1950, 1, 2, tzinfo=UTC).timestamp(), last.timestamp())


def test_what_is_no_certificate_has_no_validity(papers: Papers) -> None:
    der = der_of(papers.cert_file).public_bytes(serialization.Encoding.DER)
    cut = [der[:length] for length in range(120)]

    assert {validity(one) for one in (b"", b"\x30", b"\xff" * 50, *cut)} == {None}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("verify", [True, False])
def test_certificates_are_reported_as_they_are_seen(
    papers: Papers, loop: str, *, verify: bool
) -> None:
    """Theirs at each handshake, also where it is not verified; ours when it is read."""
    seen: list[TelemetryEvent] = []
    files = {"cert_file": papers.cert_file, "key_file": papers.key_file}
    server = ServerTls(TlsSettings.model_validate(files), "listener admin", seen.append)
    given = {"ca_file": papers.ca_file, "verify": verify, **files}
    client = Tls(TlsSettings.model_validate(given), "sink siem", seen.append)

    async def meet() -> None:
        listening = await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=server.context()
        )
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client.context(), server_hostname="localhost"
        )
        writer.close()
        listening.close()

    factory = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(meet())

    paper = der_of(papers.cert_file)
    times = (paper.not_valid_before_utc.timestamp(), paper.not_valid_after_utc.timestamp())
    assert seen == [
        CertificateSeen("listener admin", "ours", *times),
        CertificateSeen("sink siem", "ours", *times),
        CertificateSeen("sink siem", "theirs", *times),
    ]
