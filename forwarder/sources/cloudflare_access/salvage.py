"""The slow path: an answer that orjson refuses, or that it would change, read row by row.

A row that reads well alone is as the fast path would have given it. Any other row carries
``_forwarder_malformed`` (why) and ``_forwarder_raw_base64`` (its bytes as received) beside what
could be read of it. The same bytes always give the same row, since its identity depends on it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from forwarder.core.errors import TransientError
from forwarder.core.schema import MALFORMED_KEY, RAW_BYTES_KEY
from forwarder.sources.cloudflare_access.lenient import Reader, may_hold_long_integer

_SPACE = b" \t\n\r"
_BOM = b"\xef\xbb\xbf"
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{},]', re.DOTALL)
_NAME = re.compile(rb'[ \t\n\r]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")[ \t\n\r]*+:', re.DOTALL)
_RESULT = b'"result":'
_CLOSERS = {ord("["): ord("]"), ord("{"): ord("}")}
_WRAPPINGS = 50
"""Levels that formats and envelopes may later put around a row; orjson writes 254 in all."""


class Salvaged(NamedTuple):
    """``envelope`` is everything but the rows; ``rows`` None when ``result`` is no list."""

    envelope: Mapping[str, Any]
    rows: list[dict[str, Any]] | None
    malformed: int


class _TornError(Exception):
    """Brackets or quotes do not match."""


def rewritten(value: Any, body: bytes) -> bytes | None:
    """Return ``value``, which orjson read from ``body``, as it writes it.

    None when it is not exactly what was received, or cannot be written inside of other things.
    An answer that comes just as orjson would have written it has lost nothing; only another one
    is searched for integers that orjson rounds.
    """
    text = _written(value)
    if text is None or _follows_result(text, body) or not may_hold_long_integer(body):
        return text
    return None


def salvage(body: bytes) -> Salvaged:
    """Read an answer row by row.

    Raises ``TransientError`` when the rows cannot even be told apart, which is what a body that
    was cut short looks like.
    """
    text = body.removeprefix(_BOM).strip(_SPACE)
    try:
        return _salvaged(text)
    except _TornError:
        raise TransientError("the answer is cut short or is no JSON") from None


def read_row(raw: bytes) -> tuple[dict[str, Any], bool]:
    """Return one element of ``result`` as a row, and whether it is clean. Never raises."""
    reader = Reader()
    try:
        value = orjson.loads(raw)
        if isinstance(value, dict) and rewritten(value, raw) is not None:
            return value, True
    except orjson.JSONDecodeError:
        reader.note("not strictly JSON")
    row = _readable(raw, reader)
    if reader.notes:
        row[MALFORMED_KEY] = "; ".join(sorted(reader.notes))
        row[RAW_BYTES_KEY] = b64encode(raw).decode()
    return row, not reader.notes


def _salvaged(text: bytes) -> Salvaged:
    where = _find_result(text)
    if where is None:
        return Salvaged(_read_envelope(text), None, 0)
    start, end = where
    envelope = _read_envelope(text[:start] + b"null" + text[end:])
    if text[start:end][:1] != b"[":
        return Salvaged(envelope, None, 0)
    read = [read_row(text[begin:stop]) for begin, stop in _parts(text, start, end)]
    return Salvaged(envelope, [row for row, _ in read], sum(not clean for _, clean in read))


def _find_result(text: bytes) -> tuple[int, int] | None:
    """Return where the value of the last ``result`` lies."""
    found = None
    for begin, stop in _parts(text, 0, len(text)):
        name = _NAME.match(text, begin, stop)
        if name and name[1] == b'"result"':
            value = text[name.end() : stop].lstrip(_SPACE)
            found = (stop - len(value), stop - len(value) + len(value.rstrip(_SPACE)))
    return found


def _read_envelope(text: bytes) -> Mapping[str, Any]:
    value = Reader().read(text)
    return value if isinstance(value, dict) else {}


def _readable(raw: bytes, reader: Reader) -> dict[str, Any]:
    """Return what can be read of a row."""
    row = {}
    try:
        for name, value in _members(raw.strip(_SPACE)):
            row[str(reader.read(name))] = reader.read(value)
    except _TornError:
        reader.note("not a JSON object")
        return {}
    return row


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


def _written(value: Any) -> bytes | None:
    """Return JSON, None when orjson could not write it with more wrapped around it."""
    for _ in range(_WRAPPINGS):
        value = [value]
    try:
        return orjson.dumps(value)[_WRAPPINGS:-_WRAPPINGS]
    except TypeError:
        return None


def _follows_result(text: bytes, body: bytes) -> bool:
    found = body.find(_RESULT)
    return found >= 0 and body.startswith(text, found + len(_RESULT))
