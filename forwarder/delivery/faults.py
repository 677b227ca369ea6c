"""Words for what went wrong.

A foreign exception may carry a URL with a token or a row in its text. Only its type and the place
where it was raised are passed on.
"""

from __future__ import annotations

from forwarder.core.errors import ForwarderError, NeedsOperatorError, TransientError, unforeseen


def kind_of(error: ForwarderError, *, overdue: bool = False) -> str:
    """Name a failure for metrics: operator, timeout, throttled or outage."""
    if overdue:
        return "timeout"
    if isinstance(error, TransientError) and not isinstance(error, NeedsOperatorError):
        return "outage" if error.retry_after is None else "throttled"
    return "operator"


def hint_of(error: ForwarderError | None) -> str:
    """Return what a person should look at, or nothing."""
    return error.hint if isinstance(error, TransientError) else ""


def foreign(error: BaseException, subject: str) -> TransientError:
    """Return a sentence about an exception that nobody translated, without its text."""
    return TransientError(
        f"{subject} failed with {unforeseen(error)}",
        hint="an error that was not foreseen; please report it with the line above",
    )
