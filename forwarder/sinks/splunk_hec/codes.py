"""HEC's response codes: what each says and what it means for the batch, as one table.

Codes 0 to 17 were seen on live systems, 18 to 27 are as Splunk documents them, 28 is what Splunk
Cloud says in place of 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto


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
    """Nothing was taken and nobody says why."""
    PASSES = auto()
    """An outage; send the same again."""
    OPERATOR = auto()
    """A person must mend it."""
    NEW_CHANNEL = auto()
    """The channel is not accepted; send the same again on a new one."""
    NO_ACKS = auto()
    """The token does not have indexer acknowledgement."""


@dataclass(frozen=True, slots=True)
class Code:
    """One code, with Splunk's text in short and what a person can do."""

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
