"""What an error about ``journal.dsn`` says, and that no part of a password is in it."""

from __future__ import annotations

import pytest

from forwarder.core.errors import ForwarderError, StateError
from forwarder.journal.postgres import Database


@pytest.mark.parametrize(
    "dsn",
    [
        "postgres://user:a@hunter2@127.0.0.1:1/db",
        "postgres://user:hunter2/a@127.0.0.1:1/db",
        "postgres://user:12/hunter2@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 password=two hunter2",
        "host=127.0.0.1 port=1 connect_timeout=soon password=hunter2",
    ],
)
def test_a_dsn_that_is_no_address_is_refused_without_its_password(dsn: str) -> None:
    with pytest.raises(StateError, match=r"journal\.dsn is not a valid") as raised:
        Database(lambda: dsn, "forwarder").connect()

    assert "hunter2" not in f"{raised.value} {raised.value.__cause__}"


def test_a_password_with_escapes_is_no_part_of_an_outage() -> None:
    dsn = "postgres://user:a%40hunter2%2Fb@127.0.0.1:1/db"

    with pytest.raises(ForwarderError, match="unavailable") as raised:
        Database(lambda: dsn, "forwarder").connect()

    assert "hunter2" not in f"{raised.value} {raised.value.__cause__}"
