"""What a Kafka error means for the caller. One table."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TypeAlias

from aiokafka import errors as kafka

from forwarder.core.contracts import Rejection
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.kafka.parts import Part

_ALLOW_TOPIC = "allow this principal Write and Describe on the topic (kafka-acls.sh)"
_LOG_IN = "check sasl.mechanism, sasl.username and the password, and that the listener wants SASL"
_OPERATOR: dict[type[Exception], tuple[str, str]] = {
    kafka.UnknownTopicOrPartitionError: (
        "the topic does not exist",
        "create it, or let the brokers create topics (auto.create.topics.enable)",
    ),
    kafka.InvalidTopicError: ("the topic's name is not allowed", "change the setting topic"),
    kafka.TopicAuthorizationFailedError: ("no permission for the topic", _ALLOW_TOPIC),
    kafka.ClusterAuthorizationFailedError: (
        "no permission for an idempotent producer",
        "allow IdempotentWrite on the cluster, or set idempotent: false",
    ),
    kafka.TransactionalIdAuthorizationFailed: (
        "no permission for transactional_id",
        "allow Write and Describe on the transactional id",
    ),
    kafka.ProducerFenced: (
        "another producer uses our transactional_id",
        "give each sink of each forwarder a transactional_id of its own",
    ),
    kafka.SaslAuthenticationFailed: ("the brokers do not accept our log-in", _LOG_IN),
    kafka.AuthenticationFailedError: ("the brokers do not accept our log-in", _LOG_IN),
    kafka.IllegalSaslStateError: ("the brokers do not accept our log-in", _LOG_IN),
    kafka.UnsupportedSaslMechanismError: (
        "the brokers do not offer this SASL mechanism",
        "set sasl.mechanism to one that the listener offers",
    ),
    kafka.InvalidProducerEpoch: (
        "another producer uses our transactional_id",
        "give each sink of each forwarder a transactional_id of its own",
    ),
}
TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)
_REFUSED = (kafka.PolicyViolationError, kafka.UnsupportedForMessageFormatError)
_SEQUENCE_BROKEN = (kafka.OutOfOrderSequenceNumber, kafka.UnknownProducerId)
_MOST_TRIES = 20
"""Another write's refused parts can break our sequence as often as they are halved."""
_AWAY = "check that the brokers run, bootstrap_servers, and what a firewall lets through"
_UNKNOWN_CODE = "the brokers' log says why; a compacted topic takes no record without a key"


@dataclass(frozen=True, slots=True)
class SendAgain:
    """Parts to send instead of the one that failed, on a new producer."""

    parts: list[Part]


Verdict: TypeAlias = SendAgain | Rejection | TransientError


def judge(part: Part, error: Exception, now_us: int) -> Verdict:
    """Decide about a part that a broker did not take; its records are certainly not stored."""
    if isinstance(error, kafka.InvalidTimestampError):
        restamped = part.restamped(now_us)
        if restamped is not None:
            return SendAgain([restamped])
    if isinstance(error, TOO_LARGE + _REFUSED):
        if len(part.events) > 1:
            return SendAgain(part.halves())
        event = part.events[0]
        return Rejection(event.offset, _refusal(error, len(event.body)))
    if isinstance(error, _SEQUENCE_BROKEN) and part.tries < _MOST_TRIES:
        return SendAgain([part.again()])
    return explain(error, part.topic)


def _refusal(error: Exception, size: int) -> str:
    if isinstance(error, TOO_LARGE):
        return f"{size} bytes are more than the topic takes (max.message.bytes)"
    return f"the broker refuses the record: {type(error).__name__}"


def explain(error: BaseException, topic: str | None = None) -> TransientError:
    """Return ``error`` as the error to raise, with what a person can do where one must."""
    where = f" ({topic})" if topic else ""
    if isinstance(error, TransientError):
        return error
    for kind, (problem, hint) in _OPERATOR.items():
        if isinstance(error, kind):
            return NeedsOperatorError(f"Kafka: {problem}{where}", hint=hint)
    if isinstance(error, ssl.SSLCertVerificationError):
        return NeedsOperatorError(
            f"Kafka: a broker's certificate is not accepted: {error.verify_message}",
            hint="set tls.ca_file to the authority that signed it",
        )
    if isinstance(error, ssl.SSLError):
        return NeedsOperatorError(
            f"Kafka: no TLS connection with a broker: {error.reason or 'handshake failed'}",
            hint="check that the listener speaks TLS, and tls.cert_file and tls.key_file",
        )
    return TransientError(f"Kafka: {_name(error)}{where}", hint=_hint(error))


def _hint(error: BaseException) -> str:
    if isinstance(error, kafka.UnknownError):
        return _UNKNOWN_CODE
    return _AWAY if isinstance(error, OSError | kafka.KafkaConnectionError) else ""


def _name(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, kafka.ProducerClosed):
        return "given up with another batch that was not confirmed"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return type(error).__name__
