"""Bodies and headers of the generic HTTP sink: pure functions, with the time as an argument."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

from forwarder.core.model import BatchEvent
from forwarder.sinks.http.config import HttpSinkConfig, SignatureConfig
from forwarder.transport.http import basic


def encode(events: Sequence[BatchEvent], *, array: bool) -> bytes:
    """Return the bodies one a line, or as one JSON array."""
    if array:
        return b"[" + b",".join([event.body for event in events]) + b"]"
    return b"".join([part for event in events for part in (event.body, b"\n")])


def content_type(config: HttpSinkConfig, media_type: str) -> str:
    """Return what the body is: the settings' word, or the usual name for its form."""
    if config.content_type:
        return config.content_type
    if config.body == "array":
        return "application/json"
    return "application/x-ndjson" if media_type == "application/json" else media_type


def authentication(config: HttpSinkConfig) -> dict[str, str]:
    """Return the headers that hold secrets, read anew at each call."""
    headers = {name: secret.reveal() for name, secret in config.headers.items()}
    if config.bearer_token is not None:
        headers["Authorization"] = f"Bearer {config.bearer_token.reveal()}"
    if config.username is not None and config.password is not None:
        headers["Authorization"] = basic(config.username, config.password.reveal())
    return headers


def signature(config: SignatureConfig, body: bytes, now_us: int) -> Mapping[str, str]:
    """Return the headers that prove that ``body`` comes from who knows the secret."""
    headers, signed = {}, body
    if config.timestamp_header:
        seconds = str(now_us // 1_000_000)
        headers[config.timestamp_header] = seconds
        signed = seconds.encode() + b"." + body
    digest = hmac.digest(config.secret.reveal().encode(), signed, config.algorithm)
    return headers | {config.header: config.prefix + digest.hex()}
