"""The second line of defence: what looks like a secret never reaches a log line.

The first is that nobody passes one: secrets are a type that shows asterisks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from forwarder.core.errors import NeedsOperatorError
from forwarder.transport.settings import REDACTED, Secret

_SENSITIVE_KEY = re.compile(r"(?i)authorization|cookie|password|passwd|secret$|token$|api_?key$")
_PATTERNS = (
    (
        re.compile(r"(?i)\b(bearer|basic|splunk|apikey)\s+[A-Za-z0-9._~+/=:-]{6,}"),
        rf"\1 {REDACTED}",
    ),
    (re.compile(r"//[^/@\s]+@"), f"//{REDACTED}@"),
    (re.compile(r"(?i)\b((?:api_?)?(?:key|token)|password|secret)=[^&\s]+"), rf"\1={REDACTED}"),
)
_SHORTEST = 6


class Redactor:
    """Masks known secrets in log lines, and what looks like one."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        """Mask these secrets wherever they appear, beside the patterns."""
        self._secrets = list(secrets)

    def know(self, secrets: Iterable[Secret]) -> None:
        """Replace the secrets to look for; called after the settings changed."""
        self._secrets = list(secrets)

    def __call__(self, line: dict[str, Any]) -> dict[str, Any]:
        """Return the line with every text in it cleaned."""
        values = self._values()
        return {key: self._clean(key, value, values) for key, value in line.items()}

    def text(self, text: str) -> str:
        """Return one text cleaned."""
        return _cleaned(text, self._values())

    def _values(self) -> list[str]:
        values = []
        for secret in self._secrets:
            try:
                values.append(secret.reveal())
            except NeedsOperatorError:
                continue  # its file is gone: there is nothing that could be shown
        return sorted((value for value in values if len(value) >= _SHORTEST), key=len, reverse=True)

    def _clean(self, key: str, value: Any, values: list[str]) -> Any:
        if isinstance(value, str):
            return REDACTED if _SENSITIVE_KEY.search(key) else _cleaned(value, values)
        if isinstance(value, dict):
            return {
                str(inner): self._clean(str(inner), item, values) for inner, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._clean(key, item, values) for item in value]
        return value


def _cleaned(text: str, values: list[str]) -> str:
    for value in values:
        text = text.replace(value, REDACTED)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
