"""Where a stream leads, and what its failures mean."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from forwarder.core.errors import NeedsOperatorError, TransientError

_NO_COMMON_GROUND = {
    "WRONG_VERSION_NUMBER",
    "UNSUPPORTED_PROTOCOL",
    "NO_PROTOCOLS_AVAILABLE",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
}
_LOOK = "check that it runs, that host and port are right, and what a firewall lets through"
_CLOSED_AT_ONCE = "if it always closes at once, it may want a client certificate: tls.cert_file"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect to, and how: ``tls`` is the context or None, times are seconds.

    ``user_timeout`` is how long sent bytes may stay unacknowledged before the connection is given
    up (``TCP_USER_TIMEOUT``, where there is such a thing).
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    connect_timeout: float = 10.0
    user_timeout: float = 30.0

    def __str__(self) -> str:
        """Return ``host:port`` for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def explain(endpoint: Endpoint, reason: Exception | None) -> TransientError:
    """Return ``reason`` (None: the other side closed) as the error that says what to do."""
    match reason:
        case None:
            hint = _CLOSED_AT_ONCE if endpoint.tls else ""
            return TransientError(f"{endpoint} closed the connection", hint=hint)
        case ssl.SSLCertVerificationError():
            return NeedsOperatorError(
                f"the certificate of {endpoint} is not accepted: {reason.verify_message}",
                hint="set tls.ca_file to the authority that signed it, or tls.server_name to the "
                "name it carries",
            )
        case ssl.SSLError(reason=str(said)) if "ALERT" in said or said in _NO_COMMON_GROUND:
            return NeedsOperatorError(
                f"no TLS connection with {endpoint}: {said.lower().replace('_', ' ')}",
                hint="check tls.cert_file, tls.key_file and tls.min_version, and that this port "
                "speaks TLS",
            )
        case TimeoutError():
            return TransientError(f"{endpoint} does not answer in time", hint=_LOOK)
        case socket.gaierror():
            return TransientError(f"{endpoint}: the name cannot be resolved", hint="check the name")
    said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return TransientError(f"no connection with {endpoint}: {said}", hint=_LOOK)
