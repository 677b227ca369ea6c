"""An HTTP answer of Cloudflare's API becomes rows, or the exception that says what to do.

Pure: bytes, status and headers in. Trusted is ``success: true`` with a list as ``result``,
nothing else: not the status alone, not ``total_count``, not that JSON is well formed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from forwarder.core.errors import TransientError
from forwarder.sources.cloudflare_access.faults import (
    STRANGE,
    Endpoint,
    Refusal,
    ThrottledError,
    described,
    error_for,
)
from forwarder.sources.cloudflare_access.repair import Salvaged, rewritten, salvage
from forwarder.transport.http import parse_retry_after

_SUCCEEDED = range(200, 300)
_RAY = re.compile(r"[0-9A-Za-z-]{1,40}")
_MOST_CODES = 10
_NOTHING = Salvaged({}, None, 0)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer as it came over the wire, decompressed. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows, each a JSON object that orjson can write.

    ``server_time_us`` is the server's clock, None if it did not say. ``per_page`` is the page size
    that the server says it used, None if it did not. ``malformed`` counts rows that were not
    readable as received; each of them says so itself (see ``salvage``). ``repaired`` says that the
    answer was no clean JSON. ``ray`` is the answer's cf-ray. ``text`` is ``rows`` as orjson writes
    them, empty when nobody has written them yet.
    """

    rows: list[dict[str, Any]] = field(repr=False)
    server_time_us: int | None
    per_page: int | None
    malformed: int = 0
    repaired: bool = False
    ray: str = ""
    text: bytes = field(default=b"", repr=False, compare=False)


def read_rows(response: Response, endpoint: Endpoint, now_us: int) -> Answer:
    """Return the rows of an answer.

    ``now_us`` is the local clock, which matters only for a ``Retry-After`` that is a date. Raises
    ``RequestRefusedError``, ``ThrottledError`` or ``TransientError``.
    """
    (envelope, rows, malformed), text = _opened(response)
    if not _granted(response, envelope) or rows is None:
        raise error_for(_refusal(response, envelope, now_us), endpoint)
    info = envelope.get("result_info")
    return Answer(
        rows=rows,
        server_time_us=server_time_us(response),
        per_page=_positive(info.get("per_page")) if isinstance(info, dict) else None,
        malformed=malformed,
        repaired=text is None,
        ray=_ray(response),
        text=text or b"",
    )


def read_object(response: Response, endpoint: Endpoint, now_us: int) -> dict[str, Any]:
    """Return a ``result`` that is one object; raises as ``read_rows`` does."""
    envelope = _strictly(response.body)
    result = envelope.get("result")
    if not _granted(response, envelope) or not isinstance(result, dict):
        raise error_for(_refusal(response, envelope, now_us), endpoint)
    return result


def read_time_us(response: Response, endpoint: Endpoint, now_us: int) -> int:
    """Return the server's clock from any answer of the API itself, errors included.

    Raises ``ThrottledError``, or ``TransientError`` when something on the way answered.
    """
    envelope = _strictly(response.body)
    time_us = server_time_us(response)
    if not _granted(response, envelope):
        error = error_for(_refusal(response, envelope, now_us), endpoint)
        if isinstance(error, ThrottledError) or "success" not in envelope:
            raise error
    if time_us is None:
        raise TransientError(
            f"the answer does not say the time ({described(_refusal(response, envelope, now_us))})",
            hint="something on the way removes the Date header; check api_url and proxy",
        )
    return time_us


def server_time_us(response: Response) -> int | None:
    """Return the answer's ``Date`` in microseconds since 1970, or None."""
    return _date_us(response.headers.get("date", ""))


def retry_after_seconds(response: Response, now_us: int) -> float | None:
    """Return how many seconds ``Retry-After`` asks to wait; a date counts from ``Date``."""
    answered_us = server_time_us(response)
    return parse_retry_after(
        response.headers.get("retry-after"), now_us if answered_us is None else answered_us
    )


def _opened(response: Response) -> tuple[Salvaged, bytes | None]:
    """Return the envelope and its rows, and these as JSON; None if that took the slow path."""
    try:
        envelope = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return _opened_slowly(response)
    if not isinstance(envelope, dict):
        return _NOTHING, b""
    rows = envelope.get("result")
    if not isinstance(rows, list):
        return Salvaged(envelope, None, 0), b""
    text = rewritten(rows, response.body) if set(map(type, rows)) <= {dict} else None
    if text is None:
        return _opened_slowly(response)
    return Salvaged(envelope, rows, 0), text


def _opened_slowly(response: Response) -> tuple[Salvaged, bytes | None]:
    if response.status not in _SUCCEEDED:
        return _NOTHING, b""
    try:
        return salvage(response.body), None
    except TransientError as error:
        refusal = Refusal(response.status, ray=_ray(response))
        raise TransientError(f"{error} ({described(refusal)})", hint=STRANGE) from error


def _strictly(body: bytes) -> Mapping[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _granted(response: Response, envelope: Mapping[str, Any]) -> bool:
    return response.status in _SUCCEEDED and envelope.get("success") is True


def _refusal(response: Response, envelope: Mapping[str, Any], now_us: int) -> Refusal:
    errors = list(_errors(envelope.get("errors")))
    codes = (error.get("code") for error in errors)
    numbers = (code for code in codes if isinstance(code, int) and not isinstance(code, bool))
    messages = (error.get("message") for error in errors)
    return Refusal(
        status=response.status,
        codes=tuple(dict.fromkeys(numbers))[:_MOST_CODES],
        messages=tuple(one for one in messages if isinstance(one, str)),
        ray=_ray(response),
        retry_after=retry_after_seconds(response, now_us),
    )


def _errors(found: Any) -> Iterator[Mapping[str, Any]]:
    """Give each error and then its chain; whatever is not of that form is passed over."""
    for error in _objects(found):
        yield error
        yield from _objects(error.get("error_chain"))


def _objects(found: Any) -> list[Mapping[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _ray(response: Response) -> str:
    text = response.headers.get("cf-ray", "")
    return text if _RAY.fullmatch(text) else ""


def _date_us(text: str) -> int | None:
    try:
        moment = parsedate_to_datetime(text)
        return int(moment.timestamp()) * 1_000_000 if moment.tzinfo else None
    except (ValueError, TypeError, OverflowError):
        return None


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
