"""No password-like value of a SCIM body reaches an output, whoever has stored the row.

Ingest masks bodies before the journal has them; a row that an older version stored may hold one
that today's rules would have masked. Rendering masks again, so it makes no difference.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.core.masking import mask_row
from forwarder.core.schema import MALFORMED_KEY, RAW_BYTES_KEY
from forwarder.formats.pipeline import Pipeline
from forwarder.formats.shape import Shape
from forwarder.testing.samples import ACCOUNTS, NORMALISERS, SCIM, page_of
from tests.formats.styles import STYLES

_STREAM = "scim_updates"
_SECRET = "Tr0ub4dor&3"
_NAMES = st.sampled_from(["password", "Passwd", "client_secret", "api-key", "accessToken", "PIN"])
_PADDING = st.sampled_from(["", "x" * 1200])
"""A body that is remembered, and one that is too long for that."""


def _nested(name: str) -> st.SearchStrategy[Any]:
    return st.sampled_from(
        [
            {name: _SECRET},
            {"user": [{"more": {name: _SECRET}}]},
            {name: {"value": [_SECRET]}},
            {"Operations": [{"op": "replace", "path": name, "value": _SECRET}]},
            {"Operations": [{"op": "add", "value": {name: _SECRET, "active": False}}]},
            {"inner": json.dumps({name: _SECRET})},
        ]
    )


rows = st.builds(
    lambda body, padding, broken, kind, method, failed: {
        **SCIM,
        "resource_type": kind,
        "resource_user_email": "ann@example.com",
        "http_method": method,
        "status": "FAILURE" if failed else "SUCCESS",
        "request_body": json.dumps({**body, "note": padding})[: -1 if broken else None],
    },
    _NAMES.flatmap(_nested),
    _PADDING,
    st.booleans(),
    st.sampled_from(["USER", "GROUP", "ROLE"]),
    st.sampled_from(["POST", "PUT", "PATCH"]),
    st.booleans(),
)


@settings(max_examples=settings().max_examples // 2)
@given(
    row=rows,
    masked_before=st.booleans(),
    redact=st.sampled_from([None, True, False]),
    unknown=st.booleans(),
)
def test_no_secret_of_a_body_reaches_an_output(
    row: dict[str, Any], *, masked_before: bool, redact: bool | None, unknown: bool
) -> None:
    """Neither by a template nor by the mapping, nor where the row is passed on as it is."""
    row = {**row, "new_key": 1} if unknown else row
    stored = dict(mask_row(row)) if masked_before else row
    for name, style in STYLES.items():
        render = Pipeline(style, NORMALISERS, ACCOUNTS, Shape(redact_request_body=redact))
        for _ in range(2):
            (event,) = render(page_of(_STREAM, [stored])).events

            assert _SECRET.encode() not in event.body, name


@given(name=_NAMES, stream=st.sampled_from([_STREAM, "access_requests"]))
def test_no_secret_is_told_by_the_bytes_of_a_row_that_could_not_be_read(
    name: str, stream: str
) -> None:
    told = b64encode(json.dumps({name: _SECRET}).encode()[:-1]).decode()
    row = {"ray_id": "a1", MALFORMED_KEY: "not a JSON object", RAW_BYTES_KEY: told}
    for label, style in STYLES.items():
        pipeline = Pipeline(style, NORMALISERS, ACCOUNTS)
        (event,) = pipeline(page_of(stream, [row])).events

        assert told not in event.body.decode(), label
