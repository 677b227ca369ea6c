"""What ``forwarder preview`` shows of a row: its body, that it is left out, or why it failed."""

import pytest

from forwarder.core.contracts import BatchEvent, Rejection, Rendered
from forwarder.runtime.inspection import shown

_EVENT = BatchEvent(1, "", "access_requests", "", 0, 0, "success", "", b"{}")


@pytest.mark.parametrize(
    ("rendered", "text"),
    [
        (Rendered([_EVENT], 2), b"{}"),
        (Rendered([], 2, 1), None),
        (Rendered([], 2, 0, [Rejection(1, "cannot be rendered")]), b"(cannot be rendered)"),
    ],
)
def test_each_fate_of_a_row_shows(rendered: Rendered, text: bytes | None) -> None:
    assert shown(rendered) == text
