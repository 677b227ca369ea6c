"""Every HTTP status is a success or one of our errors."""

import pytest

from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ForwarderError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.transport.http_destination import status_error


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, type(None)),
        (204, type(None)),
        (301, NeedsOperatorError),
        (307, NeedsOperatorError),
        (400, BatchRefusedError),
        (401, NeedsOperatorError),
        (403, NeedsOperatorError),
        (404, NeedsOperatorError),
        (407, NeedsOperatorError),
        (408, TransientError),
        (413, BatchTooLargeError),
        (415, NeedsOperatorError),
        (418, BatchRefusedError),
        (422, BatchRefusedError),
        (425, TransientError),
        (429, TransientError),
        (500, TransientError),
        (502, TransientError),
        (503, TransientError),
        (504, TransientError),
        (599, TransientError),
    ],
)
def test_what_a_status_means(status: int, expected: type[ForwarderError]) -> None:
    assert type(status_error(status, "https://there")) is expected


@pytest.mark.parametrize("status", range(200, 600))
def test_only_success_is_no_error_and_a_person_is_always_told_what_to_do(status: int) -> None:
    error = status_error(status, "https://there", retry_after=7)

    assert (error is None) == (200 <= status < 300)
    if isinstance(error, NeedsOperatorError):
        assert error.hint
    if isinstance(error, TransientError):
        assert error.retry_after == 7
