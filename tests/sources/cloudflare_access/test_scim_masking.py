"""No password of a SCIM body is ever stored, however the row was written."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import orjson
import pytest

from forwarder.core.schema import MALFORMED_KEY, RAW_BYTES_KEY
from forwarder.sources.cloudflare_access.logs import PageMaker
from forwarder.sources.cloudflare_access.scim.updates import mask_row

_SECRET = "hunter2-correct-horse"
_BODY = '{"userName":"ann","password":"hunter2-correct-horse"}'


def stored(row: dict[str, Any]) -> dict[str, Any]:
    (record,) = PageMaker("a" * 32, "scim_updates", "logged_at", mask_row).records([row])
    parsed: dict[str, Any] = orjson.loads(record.row)
    return parsed


@pytest.mark.parametrize("body", [_BODY, orjson.loads(_BODY), [orjson.loads(_BODY)]])
def test_a_password_in_the_body_is_masked_whatever_the_body_is(body: Any) -> None:
    row = stored({"request_body": body, "status": "SUCCESS"})

    assert _SECRET not in orjson.dumps(row).decode()
    assert row["status"] == "SUCCESS"


def test_a_password_in_the_bytes_of_a_malformed_row_is_masked() -> None:
    raw = b'{"request_body":"' + _BODY.replace('"', '\\"').encode() + b'","x":1e400}'

    row = stored({MALFORMED_KEY: "1e400", RAW_BYTES_KEY: b64encode(raw).decode()})

    assert _SECRET.encode() not in b64decode(row[RAW_BYTES_KEY])


def test_the_identity_is_taken_before_the_mask() -> None:
    maker = PageMaker("a" * 32, "scim_updates", "logged_at", mask_row)
    one, other = ({"request_body": _BODY.replace("hunter2", word)} for word in ("first", "second"))

    records = maker.records([one, other])

    assert records[0].row == records[1].row
    assert records[0].identity != records[1].identity


def test_a_row_without_secrets_is_stored_as_it_is() -> None:
    row = {"request_body": '{"userName":"ann"}', "logged_at": "2026-01-01T00:00:00Z"}

    assert row == stored(row)


@pytest.mark.parametrize(
    "error",
    [
        f"invalid userName, password={_SECRET}",
        f"refused: client_secret: '{_SECRET}'",
        orjson.dumps({"detail": {"password": _SECRET}}).decode(),
        {"password": _SECRET},
    ],
)
def test_a_password_in_the_error_is_masked(error: Any) -> None:
    row = stored({"error_description": error, "status": "FAILURE"})

    assert _SECRET not in orjson.dumps(row).decode()
    assert row["status"] == "FAILURE"


@pytest.mark.parametrize(
    "error", ["password is too short", "token expired", "tokens: none", "", None, "409: uniqueness"]
)
def test_an_error_that_only_speaks_of_secrets_stays(error: Any) -> None:
    stays = "tokens: **********" if error == "tokens: none" else error

    assert stored({"error_description": error}) == {"error_description": stays}
