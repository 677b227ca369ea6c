"""What went wrong below HTTP, in our words: names, connections, certificates, proxies, time."""

from __future__ import annotations

import os
import ssl

import aiohttp

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.transport.http_status import status_error

_MISTAKES = ("CERTIFICATE", "WRONG_VERSION", "UNKNOWN_CA", "ACCESS_DENIED", "HTTP_REQUEST")
"""Parts of OpenSSL's reasons that waiting does not mend."""


def connection_error(error: Exception, where: str, seconds: float) -> TransientError:
    """Return our error for what the HTTP client raised while talking to ``where``.

    ``seconds`` is the time that the request was given. The client's own words are left out where
    they could hold a header.
    """
    if isinstance(error, TimeoutError):
        return TransientError(
            f"{where} did not answer within {seconds:g} s",
            hint="check the host, port and firewall; a hanging proxy looks like this too",
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _proxy_error(error, where)
    tls = _tls_error(error)
    if tls is not None:
        return _handshake_error(tls, where)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return TransientError(f"the name of {where} cannot be resolved", hint="check the host name")
    if isinstance(error, aiohttp.ClientConnectorError):
        return TransientError(
            f"no connection to {where}: {_reason(error.os_error)}",
            hint="check that it runs and that host and port are right",
        )
    return TransientError(f"the connection to {where} broke: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Return the system's word for ``error``; asyncio's own names the address once more."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else type(error).__name__


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return the TLS error inside ``error``, wherever the client put it.

    The client's own certificate error calls itself a TLS error too, but has no reason in it.
    """
    while error is not None:
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        if isinstance(error, ssl.SSLError) and not isinstance(inner, BaseException):
            return error
        error = inner if isinstance(inner, BaseException) else error.__cause__
    return None


def _handshake_error(error: ssl.SSLError, where: str) -> TransientError:
    reason = getattr(error, "verify_message", "") or error.reason or "handshake failed"
    said = f"TLS with {where} failed: {reason}"
    if any(mistake in (error.reason or "") for mistake in _MISTAKES):
        return NeedsOperatorError(
            said, hint="check https or http, the host name, tls.ca_file and tls.cert_file"
        )
    return TransientError(said)


def _proxy_error(error: aiohttp.ClientHttpProxyError, where: str) -> TransientError:
    found = status_error(error.status, f"the proxy to {where}")
    if isinstance(found, TransientError):
        return found
    return TransientError(f"the proxy to {where} answered {error.status}")
