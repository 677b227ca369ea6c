"""Who may see what: probes everybody, all else who has the token. Pure but for the token's file."""

from __future__ import annotations

import hmac
from base64 import b64decode
from binascii import Error as NotBase64Error

from forwarder.core.errors import NeedsOperatorError
from forwarder.transport.secrets import Secret

_OPEN = frozenset({"/livez", "/readyz"})

CHALLENGES = ("Bearer", 'Basic realm="forwarder", charset="UTF-8"')
"""What a refusal offers: programs send a bearer token, browsers ask for a password."""


class Access:
    """Judges requests; without a token everybody may see everything."""

    def __init__(self, token: Secret | None) -> None:
        """Demand ``token``; its file is read anew when it changes."""
        self._token = token

    def granted(self, path: str, authorization: str) -> bool:
        """Tell whether a request for ``path`` with this header may be answered.

        A browser cannot send a bearer token, so the token is also taken as the password of any
        user.
        """
        if self._token is None or path in _OPEN:
            return True
        try:
            expected = self._token.reveal()
        except NeedsOperatorError:
            return False
        return hmac.compare_digest(_given(authorization), expected.encode())


def _given(authorization: str) -> bytes:
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        return value.strip().encode(errors="surrogateescape")
    if kind.lower() == "basic":
        try:
            return b64decode(value.strip(), validate=True).partition(b":")[2]
        except (NotBase64Error, ValueError):
            return b""
    return b""
