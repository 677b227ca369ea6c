"""What the admin server has to tell."""

from __future__ import annotations

from dataclasses import dataclass

from forwarder.core.happenings import Happening


@dataclass(frozen=True, slots=True)
class CertificateUnusable(Happening):
    """New TLS files cannot be used; connections get the certificate that was there before."""

    error: str
    hint: str
