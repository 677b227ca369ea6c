"""Every HTTP status is a success or one of our errors."""

from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ForwarderError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.transport.http_destination import status_error

MEANINGS: dict[type[ForwarderError] | None, tuple[int, ...]] = {
    None: (200, 204, 299),
    NeedsOperatorError: (301, 307, 401, 403, 404, 407, 415, 421, 511),
    BatchRefusedError: (400, 418, 422),
    BatchTooLargeError: (413,),
    TransientError: (408, 425, 429, 500, 502, 503, 504, 599),
}


def test_what_a_status_means() -> None:
    found = {
        kind: tuple(
            status
            for status in statuses
            if type(status_error(status, "https://there")) is (kind or type(None))
        )
        for kind, statuses in MEANINGS.items()
    }

    assert found == MEANINGS


def test_only_success_is_no_error_and_a_person_is_always_told_what_to_do() -> None:
    errors = {s: status_error(s, "https://there", retry_after=7) for s in range(200, 600)}
    failed = {status: error for status, error in errors.items() if error is not None}

    assert set(errors) - set(failed) == set(range(200, 300))
    for error in failed.values():
        assert not isinstance(error, NeedsOperatorError) or error.hint
        assert not isinstance(error, TransientError) or error.retry_after == 7
