"""Reads a JSON text that is not quite one, and notes everything it had to change."""

from __future__ import annotations

import json
import re
from typing import Any

_DEEPEST = 100
_LEAST, _MOST, _MOST_DIGITS = -(2**63), 2**64 - 1, 20
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)
_LONG_INTEGER = re.compile(rb"(?<![^\[,:\s])-?[0-9]{19,}(?![^\],}\s])")
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_RUN = b"0" * (_MOST_DIGITS - 1)


def may_hold_long_integer(text: bytes) -> bool:
    """Say whether an integer may be too long for orjson, which would round it to a float.

    Cheap where there is none: one translation and one search of the whole text. A long integer
    inside a string is taken for one too; that costs time and changes nothing.
    """
    if _RUN not in text.translate(_DIGITS_TO_ZERO):
        return False
    return any(not _is_64_bit(found[0]) for found in _LONG_INTEGER.finditer(text))


class Reader:
    """Reads values for one row; ``notes`` says what was changed, empty when nothing was."""

    def __init__(self) -> None:
        self.notes: set[str] = set()

    def note(self, what: str) -> None:
        """Remember that something is not as it was received."""
        self.notes.add(what)

    def read(self, raw: bytes) -> Any:
        """Return the value, or its text where it cannot be read. Never raises.

        The result holds nothing that orjson cannot write.
        """
        text = self._text(raw)
        if _depth(raw) > _DEEPEST:
            self.note("nested too deeply, kept as text")
            return text
        try:
            return self._scrubbed(self._parsed(text, strict=True))
        except ValueError:
            return self._read_loosely(text)

    def _read_loosely(self, text: str) -> Any:
        try:
            value = self._parsed(text, strict=False)
        except ValueError:
            self.note("not JSON, kept as text")
            return self._scrubbed(text)
        self.note("unescaped control characters")
        return self._scrubbed(value)

    def _parsed(self, text: str, *, strict: bool) -> Any:
        return json.loads(
            text,
            strict=strict,
            parse_int=self._integer,
            parse_float=self._number,
            parse_constant=self._constant,
        )

    def _text(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.note("bytes that are no UTF-8, replaced")
            return raw.decode(errors="replace")

    def _integer(self, digits: str) -> int | str:
        if _is_64_bit(digits):
            return int(digits)
        self.note("an integer beyond 64 bits, kept as text")
        return digits

    def _number(self, digits: str) -> float | str:
        number = float(digits)
        if number in (float("inf"), float("-inf")):
            self.note("a number beyond a double, kept as text")
            return digits
        return number

    def _constant(self, name: str) -> str:
        self.note("NaN or Infinity, kept as text")
        return name

    def _scrubbed(self, value: Any) -> Any:
        if isinstance(value, str):
            if _SURROGATE.search(value) is None:
                return value
            self.note("half a surrogate pair, replaced")
            return _SURROGATE.sub("\ufffd", value)
        if isinstance(value, list):
            return [self._scrubbed(one) for one in value]
        if isinstance(value, dict):
            return {self._scrubbed(name): self._scrubbed(one) for name, one in value.items()}
        return value


def _is_64_bit(digits: str | bytes) -> bool:
    return len(digits) <= _MOST_DIGITS and _LEAST <= int(digits) <= _MOST


def _depth(raw: bytes) -> int:
    deepest = depth = 0
    for token in _TOKEN.finditer(raw):
        kind = raw[token.start()]
        if kind in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif kind in b"]}":
            depth -= 1
    return deepest
