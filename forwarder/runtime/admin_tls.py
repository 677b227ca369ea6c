"""The admin server's certificate, followed through its renewals."""

from __future__ import annotations

import ssl

from forwarder.config.models import AdminSettings
from forwarder.core.errors import ConfigError, Fault, NeedsOperatorError
from forwarder.core.telemetry import Emit
from forwarder.observe.events import AdminTlsUnusable
from forwarder.transport.tls import ServerTls


def admin_tls(settings: AdminSettings, emit: Emit) -> ssl.SSLContext | None:
    """Return what the admin server listens with, None for plain HTTP.

    Raises ``ConfigError`` when the files cannot be used now; later that is reported.
    """
    if settings.server_tls is None:
        return None

    def on_trouble(error: NeedsOperatorError) -> None:
        emit(AdminTlsUnusable(str(error), error.hint))

    try:
        return ServerTls(settings.server_tls).listening(on_trouble)
    except NeedsOperatorError as error:
        raise ConfigError([Fault("admin.tls", str(error), error.hint)]) from error
