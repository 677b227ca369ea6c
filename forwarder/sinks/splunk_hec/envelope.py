"""Settings of the Splunk sink, and events as HEC wants them: JSON envelopes or bare lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlencode

import orjson
from pydantic import Field, field_validator, model_validator

from forwarder.core.contracts import BatchEvent
from forwarder.core.identity import dumps
from forwarder.transport.http import HttpSettings
from forwarder.transport.presets import with_preset
from forwarder.transport.settings import Duration, Secret


class SplunkHecConfig(HttpSettings):
    """Where the collector is and how events are labelled there.

    ``host``, ``source``, ``sourcetype`` and ``index`` may hold ``{account}`` and ``{stream}`` when
    the endpoint is ``event``.
    """

    preset: Literal["cribl", "logscale"] | None = Field(
        None, description="defaults that fit a product; every key can still be set"
    )
    token: Secret = Field(description="HEC token, or token_file")
    endpoint: Literal["event", "raw"] = Field(
        "event", description="event sends JSON envelopes, raw sends lines with one set of labels"
    )
    host: str | None = Field(None, description="Splunk's host field; the account's name if unset")
    source: str | None = Field(None, description="Splunk's source; cloudflare_access if unset")
    sourcetype: str | None = Field(
        None, description="Splunk's sourcetype; cloudflare:{stream} if unset"
    )
    index: str | None = Field(None, description="index; the token's default index if unset")
    fields: dict[str, str | int | float | bool] = Field(
        {}, description="constant indexed fields, flat; event endpoint only"
    )
    ack: Literal["auto", "required", "off"] = Field(
        "auto",
        description="wait for indexer acknowledgement: auto when the token has it, required to "
        "refuse a token without it, off to trust the answer 200",
    )
    ack_timeout: Duration = Field(
        300.0, description="longest wait for an acknowledgement before sending again", gt=0
    )
    ack_interval: Duration = Field(
        1.0, description="time between two questions for acknowledgements", gt=0
    )
    auth: Literal["splunk", "bearer"] = Field(
        "splunk", description="word before the token in the header Authorization"
    )
    probe: bool = Field(
        True, description="ask for health and token first; false for a receiver that cannot say"
    )
    connections: int = Field(8, description="requests at once", gt=0, le=64)

    @field_validator(
        "ack", mode="before", json_schema_input_type=Literal["auto", "required", "off", False]
    )
    @classmethod
    def _off_is_false_in_yaml(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML 1.1 reads a bare off as false

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, given: Any) -> Any:
        return with_preset("splunk_hec", given)

    @field_validator("urls", "url")
    @classmethod
    def _base_url_only(cls, value: Any) -> Any:
        # The paths of events, acknowledgements and health are added to it.
        for url in value if isinstance(value, tuple) else (value,):
            if url and ("/services/collector" in url or "?" in url):
                raise ValueError("give the base URL, for example https://splunk:8088")
        return value

    @model_validator(mode="after")
    def _raw_has_one_set_of_labels(self) -> SplunkHecConfig:
        if self.endpoint == "raw":
            if self.fields:
                raise ValueError("fields works with endpoint: event only")
            for name in ("host", "source", "sourcetype", "index"):
                if "{" in (getattr(self, name) or ""):
                    raise ValueError(f"{name} can hold no placeholder with endpoint: raw")
        return self

    def authorization(self) -> dict[str, str]:
        """Return the header with the token; a changed token file is read again."""
        return {"Authorization": f"{self.auth.title()} {self.token.reveal()}"}


_LABELS = {
    "host": "{account}",
    "source": "cloudflare_access",
    "sourcetype": "cloudflare:{stream}",
    "index": None,
}


class Envelopes:
    """Builds request bodies for the event endpoint."""

    def __init__(self, config: SplunkHecConfig, *, json: bool) -> None:
        """Take the labels; ``json``: bodies are JSON objects, not lines of text."""
        labels = {name: getattr(config, name) or default for name, default in _LABELS.items()}
        self._labels = {name: label for name, label in labels.items() if label is not None}
        self._fields = config.fields
        self._json = json
        self._heads: dict[tuple[str, str], bytes] = {}

    def encode(self, events: Sequence[BatchEvent]) -> bytes:
        """Return the concatenated envelopes, one a line for people who look at them."""
        parts: list[bytes] = []
        last: tuple[str, str, int] | None = None
        begin = b""
        for _, _, stream, account, time_us, _, _, _, body in events:
            # Neighbours often begin alike: logins have whole seconds and come in order of time.
            if last != (key := (stream, account, time_us)):
                last, begin = key, self._begin(stream, account, time_us)
            parts += (begin, body if self._json else _text(body), b"}\n")
        return b"".join(parts)

    def _begin(self, stream: str, account: str, time_us: int) -> bytes:
        key = (stream, account)
        return b'%b%b,"event":' % (self._heads.get(key) or self._head(key), seconds(time_us))

    def _head(self, key: tuple[str, str]) -> bytes:
        """Return the part that all events of one stream of one account share, up to the time."""
        stream, account = key
        # Only the seven keys that HEC knows: an unknown one makes it drop this event and all that
        # follow, and answer 200.
        # The forwarder's own events have no account: what would be empty is the token's.
        constant: dict[str, object] = {
            name: text
            for name, label in self._labels.items()
            if (text := label.replace("{stream}", stream).replace("{account}", account))
        }
        if self._fields:
            constant["fields"] = self._fields
        head = self._heads[key] = orjson.dumps(constant)[:-1] + b',"time":'
        return head


def raw_query(config: SplunkHecConfig) -> str:
    """Return the labels of the raw endpoint as a query with its question mark, or an empty text."""
    labels = {name: value for name in _LABELS if (value := getattr(config, name))}
    return f"?{urlencode(labels)}" if labels else ""


def seconds(time_us: int) -> bytes:
    """Return microseconds since 1970 as seconds with six decimals, exactly."""
    if time_us < 0:
        return b"-" + seconds(-time_us)
    return b"%d.%06d" % divmod(time_us, 1_000_000)


def _text(body: bytes) -> bytes:
    """Return a line of text as a JSON string."""
    return dumps(body.decode("utf-8", "replace"))
