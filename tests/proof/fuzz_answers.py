"""Coverage-guided fuzzing of everything that reads an API answer.

Started with ``python -m`` and libFuzzer's options; ends with a traceback at the first error that is
not a documented one.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["forwarder"]):
    from forwarder.core.errors import ForwarderError
    from tests.proof.reading import read_through

_HEADERS = {"date": "Mon, 01 Jan 2026 00:00:00 GMT", "content-type": "application/json"}
_BEFORE, _AFTER = b'{"success":true,"errors":[],"result":', b"}"


def one_answer(data: bytes) -> None:
    """Read ``data`` as a body, or as the list of rows in a good one."""
    body = data[1:] if data[:1] < b"\x20" else _BEFORE + data + _AFTER
    try:
        read_through(200, _HEADERS, body)
    except ForwarderError:
        return


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_answer)
    atheris.Fuzz()
