"""TLS contexts from settings, replaced when a certificate, key or authority file changes.

    tls = Tls(settings)
    open_connection(host, port, ssl=tls.context(), server_hostname=tls.name_for(host))

Call ``context`` for every connection, so that a rotated certificate needs no restart. When a
certificate expires is reported at each handshake, and of our own ones when they are read.
"""

from __future__ import annotations

import errno
import re
import ssl
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.telemetry import CertificateSeen, Emit, ignore
from forwarder.transport.settings import TlsSettings

# What each verification error of OpenSSL (X509_V_ERR_...) says, and what to do about it.
_UNTRUSTED = "set tls.ca_file to the authority that signed it"
_CHAIN = f"{_UNTRUSTED}, or let the server send its intermediate certificates"
_CERTIFICATE_FAULTS = {
    2: ("is signed by an unknown authority", _CHAIN),
    9: ("is not valid yet", "check the clocks of both machines"),
    10: ("has expired", "renew it; if it is new, check the clock of this machine"),
    18: ("is signed by itself", "set tls.ca_file to this certificate"),
    19: ("ends in an authority that is not trusted", _UNTRUSTED),
    20: ("is signed by an unknown authority", _CHAIN),
    21: ("is signed by an unknown authority", _CHAIN),
    23: ("is revoked", "renew it"),
    26: ("is not meant for servers", "issue one with the extended key usage serverAuth"),
    62: ("is for another name", "use a host name that it carries, or set tls.server_name to one"),
    64: ("is for another address", "use a name that it carries, or set tls.server_name to one"),
    66: ("has a key that is too small", "issue one with a larger key"),
    67: ("has an authority with a key that is too small", "issue one with a larger key"),
    68: ("has a signature that is too weak", "issue one that is signed with SHA-256 or better"),
    79: ("is signed by a certificate of no authority", "set tls.ca_file to an authority"),
}
# X509_V_ERR_PATHLEN_INVALID_FOR_NON_CA to ..._EXTENSIONS_REQUIRE_VERSION_3: only VERIFY_X509_STRICT
# raises these.
_STRICT_FAULTS = range(80, 94)
_OUR_CERTIFICATE = "check tls.cert_file and tls.key_file: the other side wants another certificate"
_NOT_TLS = "check that this port speaks TLS"
_HANDSHAKE_FAULTS = {
    "WRONG_VERSION_NUMBER": _NOT_TLS,
    "HTTP_REQUEST": _NOT_TLS,
    "RECORD_LAYER_FAILURE": _NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": _NOT_TLS,
    "UNSUPPORTED_PROTOCOL": "check tls.min_version",
    "NO_PROTOCOLS_AVAILABLE": "check tls.min_version",
    "TLSV1_ALERT_PROTOCOL_VERSION": "check tls.min_version",
    "TLSV1_UNRECOGNIZED_NAME": "check the host name and tls.server_name",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "check tls.min_version and tls.cert_file",
}
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_Stamp: TypeAlias = tuple[int, int, int]


class _Followed(ABC):
    """A context, and the state of its files when it was made."""

    def __init__(self, settings: TlsSettings, where: str = "", emit: Emit = ignore) -> None:
        """Make nothing yet; ``where`` (``sink NAME``) is whose certificates are reported."""
        self.settings = settings
        self._where = where
        self._emit = emit
        files = (settings.ca_file, settings.cert_file, settings.key_file)
        self._files = tuple(path for path in files if path)
        self._stamps: tuple[_Stamp, ...] = ()
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection; the same object until a file changes.

        Raises ``NeedsOperatorError`` when a file cannot be read or does not fit the others, at
        every call until that is fixed.
        """
        # Using the last good context instead would hide the mistake until its certificate expires.
        try:
            stamps = tuple(_stamp(path) for path in self._files)
            if self._context is None or stamps != self._stamps:
                self._context = self._make()
                self._stamps = stamps
        except OSError as error:
            raise _unusable(self._files, error) from error
        return self._context

    @abstractmethod
    def _make(self) -> ssl.SSLContext:
        """Return a new context from the files as they are now."""

    def _present(self, context: ssl.SSLContext) -> None:
        """Load our certificate and key; a key with a password is refused."""
        # Without a callback OpenSSL would ask for the password on the terminal.
        if self.settings.cert_file:
            context.load_cert_chain(
                self.settings.cert_file, self.settings.key_file, password=_no_password
            )
            first = _CERTIFICATE.search(self.settings.cert_file.read_text("ascii", "replace"))
            self._report("ours", ssl.PEM_cert_to_DER_cert(first[0]) if first else None)

    def _report(self, side: str, certificate: bytes | None) -> None:
        times = None if certificate is None else validity(certificate)
        if times is not None:
            self._emit(CertificateSeen(self._where, side, *times))


class Tls(_Followed):
    """Contexts for connections to one destination."""

    def _make(self) -> ssl.SSLContext:
        settings = self.settings
        context = ssl.create_default_context(
            cafile=str(settings.ca_file) if settings.ca_file else None
        )
        context.minimum_version = _VERSIONS[settings.min_version]
        # Python 3.13 sets both flags by default, older ones neither: here they never depend on the
        # version. Private authorities often lack what STRICT demands; an intermediate certificate
        # in ca_file is trusted, as by curl.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if settings.strict:
            context.verify_flags |= ssl.VERIFY_X509_STRICT
        if not settings.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._present(context)
        context.sslobject_class = self._observed()
        return context

    def _observed(self) -> type[ssl.SSLObject]:
        """Return the class of connections that report the other side's certificate."""
        report = self._report

        # asyncio and uvloop make connections of this class, whichever library asks for them.
        class Observed(ssl.SSLObject):
            def do_handshake(self) -> None:
                super().do_handshake()
                report("theirs", self.getpeercert(binary_form=True))

        return Observed

    def name_for(self, host: str) -> str:
        """Return the name that the other side's certificate must carry."""
        return self.settings.server_name or host


class ServerTls(_Followed):
    """Contexts for a listener; needs ``cert_file``, and ``ca_file`` demands client certificates."""

    def _make(self) -> ssl.SSLContext:
        settings = self.settings
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[settings.min_version]
        if settings.ca_file:
            context.load_verify_locations(str(settings.ca_file))
            context.verify_mode = ssl.CERT_REQUIRED
        self._present(context)
        return context

    def listening(self, on_error: Callable[[NeedsOperatorError], None]) -> ssl.SSLContext:
        """Return a context for a listener; every connection uses the files as they are then.

        Raises ``NeedsOperatorError`` when they cannot be used now. When they cannot be used later,
        ``on_error`` is called and the previous ones stay in force, so that a half-written pair
        of files refuses nobody.
        """
        context = self._make_readable()

        def refresh(connection: ssl.SSLObject, *_: object) -> None:
            try:
                connection.context = self.context()
            except NeedsOperatorError as error:
                on_error(error)

        context.sni_callback = refresh
        return context

    def _make_readable(self) -> ssl.SSLContext:
        self.context()
        return self._make()


def validity(certificate: bytes) -> tuple[float, float] | None:
    """Return from when until when a certificate (DER) is valid, in seconds since 1970.

    None if it cannot be read.
    """
    # The standard library reads only certificates that it has verified.
    try:
        _, at, _ = _element(certificate, 0)
        _, at, _ = _element(certificate, at)
        tag, _, end = _element(certificate, at)
        at = end if tag == _VERSION else at
        for _ in ("serial number", "signature", "issuer"):
            _, _, at = _element(certificate, at)
        _, at, _ = _element(certificate, at)
        _, _, behind = _element(certificate, at)
        return _time(certificate, at), _time(certificate, behind)
    except (IndexError, ValueError):
        return None


_VERSION, _TWO_DIGITS = 0xA0, 0x17
"""Tags of X.509: of an element that may be left out, and of a time whose year has two digits."""


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag of the element at ``at``, where its content begins, and where it ends."""
    tag, size, begin = der[at], der[at + 1], at + 2
    if size >= 0x80:  # noqa: PLR2004 - then it is the number of bytes that hold the size
        begin += size & 0x7F
        size = int.from_bytes(der[at + 2 : begin], "big")
    return tag, begin, begin + size


def _time(der: bytes, at: int) -> float:
    tag, begin, end = _element(der, at)
    text = der[begin:end].decode("ascii")
    if tag == _TWO_DIGITS:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    # OpenSSL would wait on the event loop for somebody to write into a named pipe.
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return found.st_mtime_ns, found.st_size, found.st_ino


def _no_password() -> bytes:
    return b""


def _unusable(files: tuple[Path, ...], error: OSError) -> NeedsOperatorError:
    """Return the error for files that cannot be used."""
    reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
    # OpenSSL names no file, so all are named.
    names = str(error.filename) if error.filename else ", ".join(str(path) for path in files)
    return NeedsOperatorError(
        f"TLS files cannot be used ({names}): {reason}",
        hint="check that each is readable PEM, that key and certificate belong together and that "
        "the key has no password",
    )


def explain_tls(error: ssl.SSLError, where: str) -> TransientError:
    """Return our error for a failed handshake with ``where``, with what to check.

    ``NeedsOperatorError`` unless waiting may help.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _STRICT_FAULTS:
            problem = f"breaks a strict rule of RFC 5280: {error.verify_message}"
            hint = (
                "issue one without this fault, or set tls.strict: false; see docs/certificates.md"
            )
        else:
            fallback = (f"is not accepted: {error.verify_message}", "check it with openssl verify")
            problem, hint = _CERTIFICATE_FAULTS.get(error.verify_code, fallback)
        return NeedsOperatorError(f"the certificate of {where} {problem}", hint=hint)
    reason = error.reason or "handshake failed"
    said = f"no TLS connection with {where}: {reason.lower().replace('_', ' ')}"
    hint = _HANDSHAKE_FAULTS.get(reason, _OUR_CERTIFICATE if "ALERT" in reason else "")
    return NeedsOperatorError(said, hint=hint) if hint else TransientError(said)
