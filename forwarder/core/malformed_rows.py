"""The lenient parser: reads an answer that orjson refuses, or would change, row by row.

A row that reads well alone is as the fast way would have given it. Any other row carries
``_forwarder_malformed`` (why) and ``_forwarder_raw_base64`` (its bytes as received) beside what
could be read of it. The same bytes always give the same row, since its identity depends on them.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from forwarder.core.errors import TransientError
from forwarder.core.schema import MALFORMED_KEY, RAW_BYTES_KEY

_DEEPEST = 100
_MOST_VALUES = 1_000_000
"""Parsed, so many values take about 100 MiB; a usual answer of 1,000 rows has 30,000."""
_LEAST, _MOST, _MOST_DIGITS = -(2**63), 2**64 - 1, 20
_WRAPPINGS = 50
"""Levels that formats and envelopes may later put around a row; orjson writes 254 in all."""

_SPACE = b" \t\n\r"
_BOM = b"\xef\xbb\xbf"
_RESULT = b'"result":'
_CLOSERS = {ord("["): ord("]"), ord("{"): ord("}")}
_SURROGATE = re.compile("[\ud800-\udfff]")
# Possessive quantifiers (`*+`): a string without an end fails at once, in linear time.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TOKEN = re.compile(_STRING + rb'|["\[\]{},]', re.DOTALL)
_NAME = re.compile(rb"[ \t\n\r]*+(" + _STRING + rb")[ \t\n\r]*+:", re.DOTALL)
_BRACKET = re.compile(_STRING + rb"|[\[\]{}]", re.DOTALL)
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_LONG_RUN = b"0" * (_MOST_DIGITS - 1)
_DIGITS = re.compile(rb"[0-9]++")
_BEFORE_NUMBER, _AFTER_NUMBER = frozenset(b"[,: \t\n\r"), frozenset(b"],} \t\n\r")


RESULT = ("result",)
"""Where an answer of Cloudflare's REST API has its rows."""
_TWICE = "a key stands twice, the last one is read"


class Repaired(NamedTuple):
    """``envelope`` is everything but the rows; ``rows`` is None where there is no list of them."""

    envelope: Mapping[str, Any]
    rows: list[dict[str, Any]] | None
    malformed: int


class _TornError(Exception):
    """Brackets or quotes do not match."""


def is_dense(text: bytes) -> bool:
    """Return True if ``text`` holds so many values that they should not be parsed at once.

    Commas and brackets inside strings count too: that costs a smaller page, and no row.
    """
    if len(text) <= _MOST_VALUES:
        return False
    return text.count(b",") + text.count(b"[") + text.count(b"{") > _MOST_VALUES


def rewritten(
    envelope: Mapping[str, Any], body: bytes, path: Sequence[str | int] = RESULT
) -> bytes | None:
    """Return the rows of an answer, which orjson read from ``body``, as orjson writes them.

    None when the answer is not exactly what was received, or cannot be written inside of other
    things; it then takes the lenient way.
    """
    text = _written(at(envelope, path))
    # Bytes that are just as orjson writes them have lost nothing on the way.
    if text is None or _follows_result(text, body):
        return text
    whole = _written(envelope)
    return text if whole is not None and _is_exact(body, whole) else None


def at(value: Any, path: Sequence[str | int]) -> Any:
    """Return what a JSON value has at ``path``: keys and places in lists; None for nothing."""
    for step in path:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and len(value) > step else None
    return value


def repair(body: bytes, path: Sequence[str | int] = RESULT) -> Repaired:
    """Read an answer row by row; ``path`` leads to its rows, by keys and by places in lists.

    Raises ``TransientError`` when the rows cannot even be separated, which is what a body that
    was cut short looks like.
    """
    text = body.removeprefix(_BOM).strip(_SPACE)
    try:
        return _repaired(text, path)
    except _TornError:
        raise TransientError("the answer is cut short or is no JSON") from None


def repair_row(raw: bytes) -> tuple[dict[str, Any], bool]:
    """Return one element of ``result`` as a row, and whether it is clean. Never raises."""
    parser = _Parser()
    try:
        value = None if is_dense(raw) else orjson.loads(raw)
        text = _written(value)
        if isinstance(value, dict) and text is not None and _is_exact(raw, text):
            return value, True
    except orjson.JSONDecodeError:
        parser.note("not strictly JSON")
    row = parser.row(raw)
    if parser.notes:
        row |= malformed_row("; ".join(sorted(parser.notes)), raw)
    return row, not parser.notes


def malformed_row(why: str, raw: bytes) -> dict[str, Any]:
    """Return the keys that mark a row as malformed."""
    return {MALFORMED_KEY: why, RAW_BYTES_KEY: b64encode(raw).decode()}


def _repaired(text: bytes, path: Sequence[str | int]) -> Repaired:
    where: tuple[int, int] | None = 0, len(text)
    for step in path:
        # A null in the place of an object holds no rows, and the rest can be read.
        if where is not None and text[slice(*where)] != b"null":
            where = _find(text, *where, step)
    if where is None:
        return Repaired(_read_envelope(text), None, 0)
    start, end = where
    # Without the rows: a broken one must not cost the envelope, which has `success`.
    envelope = _read_envelope(text[:start] + b"null" + text[end:])
    if text[start:end][:1] != b"[":
        return Repaired(envelope, None, 0)
    read = [repair_row(text[begin:stop]) for begin, stop in _parts(text, start, end)]
    return Repaired(envelope, [row for row, _ in read], sum(not clean for _, clean in read))


def _find(text: bytes, start: int, end: int, step: str | int) -> tuple[int, int] | None:
    """Return where the value of a key, or of a place, of ``text[start:end]`` lies.

    Of equal keys the last one counts.
    """
    found = None
    for place, (begin, stop) in enumerate(_parts(text, start, end)):
        name = _NAME.match(text, begin, stop)
        if (name and name[1] == f'"{step}"'.encode()) or place == step:
            value = text[name.end() if name else begin : stop].lstrip(_SPACE)
            found = (stop - len(value), stop - len(value) + len(value.rstrip(_SPACE)))
    return found


def _read_envelope(text: bytes) -> Mapping[str, Any]:
    value = _Parser().value(text)
    return value if isinstance(value, dict) else {}


class _Parser:
    """Reads one row; ``notes`` says what was changed, empty when nothing was."""

    def __init__(self) -> None:
        self.notes: set[str] = set()

    def note(self, what: str) -> None:
        """Remember that something is not as it was received."""
        self.notes.add(what)

    def row(self, raw: bytes) -> dict[str, Any]:
        """Return what can be read of a row, member by member."""
        row: dict[str, Any] = {}
        try:
            for raw_name, value in _members(raw.strip(_SPACE)):
                name = str(self.value(raw_name))
                if name in row:
                    self.note(_TWICE)
                row[name] = self.value(value)
        except _TornError:
            self.note("not a JSON object")
            return {}
        return row

    def value(self, raw: bytes) -> Any:
        """Return the value, or its text where it cannot be read. Never raises.

        The result holds nothing that orjson cannot write.
        """
        text = self._text(raw)
        if is_dense(raw):
            self.note("too many values, kept as text")
            return text
        # Before parsing: the standard library's parser recurses.
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
        # Not orjson: only the standard library has hooks for what would be changed silently.
        return json.loads(
            text,
            strict=strict,
            object_pairs_hook=self._object,
            parse_int=self._integer,
            parse_float=self._number,
            parse_constant=self._constant,
        )

    def _object(self, members: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(members)
        if len(found) < len(members):
            self.note(_TWICE)
        return found

    def _text(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.note("bytes that are not UTF-8, replaced")
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


def _members(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give the names and values of an object, as bytes."""
    if not raw.startswith(b"{"):
        raise _TornError
    for begin, stop in _parts(raw, 0, len(raw)):
        name = _NAME.match(raw, begin, stop)
        if name is None:
            raise _TornError
        yield name[1], raw[name.end() : stop].strip(_SPACE)


def _parts(text: bytes, start: int, end: int) -> list[tuple[int, int]]:
    """Return what lies between the commas of the list or object that fills ``text[start:end]``."""
    if start >= end or text[start] not in _CLOSERS:
        raise _TornError
    open_ends = bytearray((_CLOSERS[text[start]],))
    spans, begin = [], start + 1
    for token in _TOKEN.finditer(text, start + 1, end):
        place, kind = token.start(), text[token.start()]
        if kind in _CLOSERS:
            open_ends.append(_CLOSERS[kind])
        elif kind == ord('"'):
            # A quote alone opens a string that has no end.
            if token.end() - place == 1:
                raise _TornError
        elif kind != ord(","):
            if open_ends.pop() != kind or (not open_ends and token.end() != end):
                raise _TornError
            if not open_ends:
                spans.append((begin, place))
                return [span for span in spans if text[slice(*span)].strip(_SPACE)]
        elif len(open_ends) == 1:
            spans.append((begin, place))
            begin = token.end()
    raise _TornError


def _depth(raw: bytes) -> int:
    deepest = depth = 0
    for token in _BRACKET.finditer(raw):
        kind = raw[token.start()]
        if kind in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif kind in b"]}":
            depth -= 1
    return deepest


def _is_64_bit(digits: str | bytes) -> bool:
    # The length first: `int` refuses a text of more than 4,300 digits.
    return len(digits) <= _MOST_DIGITS and _LEAST <= int(digits) <= _MOST


def _is_exact(body: bytes, written: bytes) -> bool:
    """Return True if what orjson read from ``body`` and has ``written`` is all that is in it.

    Two things it changes silently: it rounds long integers to floats, and of members with
    equal keys it keeps the last.
    """
    if _holds_long_integer(body):
        return False
    return _strings(body) == _strings(written)


def _strings(text: bytes) -> int:
    """Return twice the number of strings in JSON text, keys included."""
    # Without escaped backslashes and quotes, each quote begins or ends a string. However strings
    # are escaped there are as many of them, unless a key stood twice.
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return text.count(b'"')


def _holds_long_integer(text: bytes) -> bool:
    """Return True if an integer may be too long for orjson, which would round it to a float.

    A long integer inside a string counts too; that costs time and changes nothing.
    """
    # One search of a text without other digits than 0: cheap where there is no long run of them.
    zeros = text.translate(_DIGITS_TO_ZERO)
    start = zeros.find(_LONG_RUN)
    while start >= 0:
        digits = _DIGITS.match(text, start)
        end = digits.end() if digits else start + 1
        if _is_long_integer(text, start, end):
            return True
        start = zeros.find(_LONG_RUN, end)
    return False


def _is_long_integer(text: bytes, start: int, end: int) -> bool:
    """Return True if the digits ``text[start:end]`` are a number by themselves, beyond 64 bits."""
    begin = start - 1 if text[start - 1 : start] == b"-" else start
    before, after = text[begin - 1 : begin] if begin else b"", text[end : end + 1]
    is_number = _BEFORE_NUMBER.issuperset(before) and _AFTER_NUMBER.issuperset(after)
    return is_number and not _is_64_bit(text[begin:end])


def _written(value: Any) -> bytes | None:
    """Return JSON, or None when orjson could not write it with more wrapped around it."""
    for _ in range(_WRAPPINGS):
        value = [value]
    try:
        return orjson.dumps(value)[_WRAPPINGS:-_WRAPPINGS]
    except TypeError:
        return None


def _follows_result(text: bytes, body: bytes) -> bool:
    found = body.find(_RESULT)
    return found >= 0 and body.startswith(text, found + len(_RESULT))
