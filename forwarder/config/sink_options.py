"""What every sink takes, whatever its type; the sink's own code never sees these keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from forwarder.transport.secrets import Secret
from forwarder.transport.settings import Settings
from forwarder.transport.units import Duration, Size


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


Words = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_list, json_schema_input_type=str | tuple[str, ...]),
]
"""One text or a list of them."""

_Outcome = Literal["success", "failure", "unknown"]
Outcomes = Annotated[
    tuple[_Outcome, ...],
    BeforeValidator(_as_list, json_schema_input_type=_Outcome | tuple[_Outcome, ...]),
]
"""One outcome or a list of them; any other word would silence the sink."""


class EventFilter(Settings):
    """Which events are meant: all keys that are given must fit, one value of each is enough."""

    stream: Words = Field((), description="access_requests, scim_updates or forwarder")
    outcome: Outcomes = Field((), description="how it ended")
    action: Words = Field((), description="the row's action, for example login or logout")
    app: Words = Field((), description="name, domain or id of the application")
    connection: Words = Field((), description="the login method")


class BatchOptions(Settings):
    """How large a batch may grow; what is left out is the sink type's own default."""

    max_events: int | None = Field(None, ge=1, le=100_000, description="events in one batch")
    max_bytes: Size | None = Field(None, ge=1, description="bytes of the bodies in one batch")
    max_wait: Duration | None = Field(None, description="how long an incomplete batch waits")


class RetryOptions(Settings):
    """Waiting between attempts: exponential with full jitter."""

    initial: Duration = Field(1.0, gt=0, description="ceiling of the first wait")
    max: Duration = Field(30.0, gt=0, description="ceiling of all waits")

    @model_validator(mode="after")
    def _in_order(self) -> RetryOptions:
        if self.initial > self.max:
            raise ValueError("retry.initial must not be above retry.max")
        return self


class SinkOptions(Settings):
    """The keys that every sink takes beside its own."""

    format: str | None = Field(None, description="how events are written; default: the type's own")
    when_full: Literal["block", "drop_oldest"] = Field(
        "block", description="block: no row is lost, ingest waits; drop_oldest: best effort"
    )
    start_at: Literal["now", "beginning"] = Field(
        "now", description="where a sink that is new to this journal begins"
    )
    paused: bool = Field(False, description="keep the offset, deliver nothing")
    batch: BatchOptions = Field(BatchOptions(), description="how large batches may grow")
    max_in_flight: int | None = Field(None, ge=1, le=256, description="batches at the same time")
    timeout: Duration | None = Field(None, gt=0, description="longest time one batch may take")
    retry: RetryOptions = Field(RetryOptions(), description="waiting between attempts")
    only: EventFilter | None = Field(None, description="deliver nothing else")
    except_: EventFilter | None = Field(None, alias="except", description="do not deliver these")
    drop_fields: Words = Field((), description="keys of the row to leave out")
    hash_fields: Words = Field((), description="keys of the row to replace by a keyed hash")
    hash_key: Secret | None = Field(None, description="key of hash_fields")
    add_fields: dict[str, str] = Field({}, description="keys and texts to add to every event")
    redact_request_body: bool | None = Field(
        None, description="leave out SCIM request bodies; default: as the format does"
    )

    @model_validator(mode="after")
    def _hashes_have_a_key(self) -> SinkOptions:
        if self.hash_fields and self.hash_key is None:
            raise ValueError("hash_fields needs hash_key or hash_key_file")
        return self
