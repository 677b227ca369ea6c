"""What HEC's answers mean for a batch: one table of codes, and pure functions over it.

Codes 0 to 17 were seen on live systems, 18 to 27 are as Splunk documents them, 28 is what Splunk
Cloud sends in place of 10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import orjson

from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ForwarderError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.transport.http_destination import no_batch, status_error


class Meaning(Enum):
    """What a code means for the batch that was sent."""

    DELIVERED = auto()
    EASE_OFF = auto()
    """Delivered; the collector's queue is nearly full."""
    ACKS_FILL = auto()
    """Delivered; the collector's list of acknowledgements is nearly full."""
    POISON = auto()
    """One event is at fault; those before it are delivered, those after it are not."""
    REFUSED = auto()
    """Nothing was taken, and the answer does not say why."""
    PASSES = auto()
    """An outage; send the batch again."""
    OPERATOR = auto()
    """A person must fix it."""
    NEW_CHANNEL = auto()
    """The channel is not accepted; send the batch again on a new one."""
    NO_ACKS = auto()
    """The token does not have indexer acknowledgement."""


@dataclass(frozen=True, slots=True)
class Code:
    """One code, with Splunk's text in short and a hint for a person."""

    text: str
    meaning: Meaning
    hint: str = ""


_INPUTS = "check the token in Splunk under Settings > Data inputs > HTTP Event Collector"
_INDEX = "add the index to the token's allowed indexes, or change index in the settings"
_STICKY = (
    "something on the way removes the header X-Splunk-Request-Channel; behind a load balancer "
    "acknowledgements also need sticky sessions"
)

CODES: Mapping[int, Code] = {
    0: Code("success", Meaning.DELIVERED),
    1: Code("token disabled", Meaning.OPERATOR, _INPUTS),
    2: Code("token is required", Meaning.OPERATOR, _INPUTS),
    3: Code("invalid authorization", Meaning.OPERATOR, _INPUTS),
    4: Code("invalid token", Meaning.OPERATOR, _INPUTS),
    5: Code("no data", Meaning.REFUSED),
    6: Code("invalid data format", Meaning.POISON),
    7: Code("incorrect index", Meaning.OPERATOR, _INDEX),
    8: Code("internal server error", Meaning.PASSES),
    9: Code("server is busy", Meaning.PASSES),
    10: Code("data channel is missing", Meaning.OPERATOR, _STICKY),
    11: Code("invalid data channel", Meaning.NEW_CHANNEL),
    12: Code("event field is required", Meaning.POISON),
    13: Code("event field cannot be blank", Meaning.POISON),
    14: Code("acknowledgement is disabled", Meaning.NO_ACKS),
    15: Code("error in handling indexed fields", Meaning.POISON),
    16: Code("query string authorization is not enabled", Meaning.OPERATOR, _INPUTS),
    17: Code("healthy", Meaning.DELIVERED),
    18: Code("queues are full", Meaning.PASSES),
    19: Code("acknowledgement service unavailable", Meaning.PASSES),
    20: Code("queues are full, acknowledgement service unavailable", Meaning.PASSES),
    21: Code("invalid token", Meaning.OPERATOR, _INPUTS),
    22: Code("token disabled", Meaning.OPERATOR, _INPUTS),
    23: Code("server is shutting down", Meaning.PASSES),
    24: Code("queue is approaching its capacity", Meaning.EASE_OFF),
    25: Code("acknowledgements are approaching their capacity", Meaning.ACKS_FILL),
    26: Code("queue is at capacity", Meaning.PASSES),
    27: Code("acknowledgement channel is at capacity", Meaning.PASSES),
    28: Code("data channel is missing", Meaning.OPERATOR, _STICKY),
}


_NUMBER = re.compile(r"[0-9]{1,19}")
# Splunk Cloud answers a body over its limit (from 5,242,881 to 6,000,000 bytes before compression)
# with code 6 about event 0. From this size on, that answer is taken for "too large".
CLOUD_LIMIT = 5_000_000


class ChannelRefusedError(TransientError):
    """The channel is not accepted; the next attempt must use another."""


class AcksDisabledError(NeedsOperatorError):
    """The token does not have indexer acknowledgement."""


@dataclass(frozen=True, slots=True)
class Taken:
    """How much of a batch HEC took.

    The first ``accepted`` events were taken. If ``poison`` is not empty, it is what is wrong with
    the next event. The others were not taken, if there are any; ``retry_after`` is how many seconds
    to wait with them. ``ack_id`` is the id to wait for, or None.
    """

    accepted: int
    ack_id: int | None = None
    poison: str = ""
    ease_off: bool = False
    acks_fill: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent: number of events, bytes before compression, and to which server."""

    count: int
    size: int
    where: str


def judge(status: int, body: bytes, sent: Sent, retry_after: float | None = None) -> Taken:
    """Return how much of the batch was taken, or raise the error for the engine."""
    said = _parse(body)
    code = _code(said)
    # A code of success with a status of failure, or the reverse, is not HEC's own answer.
    fits = code is not None and (code.meaning in _GOOD) == (status < 300)  # noqa: PLR2004
    if code is None or not fits:
        raise _by_status(status, sent.where, retry_after)
    if code.meaning is Meaning.POISON:
        return _poisoned(said, code, sent)
    if code.meaning not in _GOOD:
        taken = _taken_before(said, code, sent)
        if taken:
            return Taken(taken, _ack_id(said), ease_off=True, retry_after=retry_after)
        raise fault(code, sent.where, retry_after)
    return Taken(
        sent.count,
        _ack_id(said),
        ease_off=code.meaning is not Meaning.DELIVERED,
        acks_fill=code.meaning is Meaning.ACKS_FILL,
    )


_GOOD = frozenset({Meaning.DELIVERED, Meaning.EASE_OFF, Meaning.ACKS_FILL})


def judge_acks(
    status: int, body: bytes, where: str, retry_after: float | None = None
) -> Mapping[int, bool]:
    """Return which ids an answer acknowledges.

    Raises only kinds of ``TransientError``, as ``judge_health`` does: there is no batch to refuse.
    """
    said = _parse(body)
    acks = said.get("acks")
    if status == 200 and isinstance(acks, dict):  # noqa: PLR2004 - the one status with ids
        return {int(key): value is True for key, value in acks.items() if _NUMBER.fullmatch(key)}
    code = _code(said)
    with no_batch():
        if code is None or code.meaning in _GOOD:
            raise _by_status(status, where, retry_after)
        raise fault(code, where, retry_after)


def judge_health(status: int, body: bytes, where: str, retry_after: float | None = None) -> None:
    """Raise a kind of ``TransientError`` unless the collector reports that it is healthy."""
    with no_batch():
        judge(status, body, Sent(0, 0, where), retry_after)


def fault(code: Code, where: str, retry_after: float | None = None) -> ForwarderError:
    """Return the error that a code stands for."""
    said = f"{where}: {code.text}"
    match code.meaning:
        case Meaning.OPERATOR:
            return NeedsOperatorError(said, retry_after=retry_after, hint=code.hint)
        case Meaning.NO_ACKS:
            return AcksDisabledError(
                said, hint="enable indexer acknowledgement for the token, or set ack: off"
            )
        case Meaning.NEW_CHANNEL:
            return ChannelRefusedError(said)
        case Meaning.PASSES:
            return TransientError(said, retry_after=retry_after)
        case _:
            return BatchRefusedError(said)


def _taken_before(said: Mapping[str, Any], code: Code, sent: Sent) -> int:
    """Return how many events were taken before the one that an error names, or 0."""
    index = said.get("invalid-event-number")
    if type(index) is not int or not 0 <= index <= sent.count:
        return 0
    # An index that the token may not write to is reported with the number after its event.
    return max(0, index - 1) if code.meaning is Meaning.OPERATOR else min(index, sent.count - 1)


def _poisoned(said: Mapping[str, Any], code: Code, sent: Sent) -> Taken:
    index = said.get("invalid-event-number")
    if type(index) is not int or not 0 <= index < sent.count:
        raise BatchRefusedError(f"{sent.where}: {code.text}, without saying which event")
    # Too many bytes, in Splunk Cloud's words; a bad first event would be no reason to split.
    if index == 0 and sent.size > CLOUD_LIMIT:
        raise BatchTooLargeError(f"{sent.where}: {code.text}, which means too many bytes")
    return Taken(index, _ack_id(said) if index else None, poison=code.text)


def _code(said: Mapping[str, Any]) -> Code | None:
    """Return the code of an answer, or None if there is no known one."""
    number = said.get("code")
    return CODES.get(number) if type(number) is int else None  # False would find code 0


def _ack_id(said: Mapping[str, Any]) -> int | None:
    ack_id = said.get("ackId")
    return ack_id if isinstance(ack_id, int) and not isinstance(ack_id, bool) else None


def _by_status(status: int, where: str, retry_after: float | None) -> ForwarderError:
    """Judge an answer that is not HEC's: of a balancer, a proxy, a log-in page, a newer code."""
    return status_error(status, where, retry_after=retry_after) or TransientError(
        f"{where} answered {status} with something that is not HEC's",
        hint="check the URL; a log-in page or a load balancer may answer in Splunk's place",
    )


def _parse(body: bytes) -> Mapping[str, Any]:
    """Return the answer's JSON object, or an empty one for anything else, such as HTML."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}
