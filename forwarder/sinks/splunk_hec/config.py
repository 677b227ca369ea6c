"""The settings of the Splunk HEC sink."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from forwarder.transport.http_settings import HttpSettings
from forwarder.transport.secrets import Secret
from forwarder.transport.units import Duration


class SplunkHecConfig(HttpSettings):
    """Where the collector is and how events are labelled there.

    ``host``, ``source``, ``sourcetype`` and ``index`` may hold ``{account}`` and ``{stream}`` when
    the endpoint is ``event``.
    """

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
    connections: int = Field(8, description="requests at once", gt=0, le=64)

    @field_validator(
        "ack", mode="before", json_schema_input_type=Literal["auto", "required", "off", False]
    )
    @classmethod
    def _off_is_false_in_yaml(cls, value: Any) -> Any:
        return "off" if value is False else value

    @field_validator("urls", "url")
    @classmethod
    def _base_url_only(cls, value: Any) -> Any:
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
