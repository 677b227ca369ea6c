"""What an error about ``journal.dsn`` says, and that no part of a password is in it."""

from __future__ import annotations

import pytest

from forwarder.config.models import JournalSettings
from forwarder.core.errors import ConfigError, ForwarderError, NeedsOperatorError, StateError
from forwarder.journal.postgres import Database
from forwarder.runtime.opening import check_address
from forwarder.transport.settings import Secret


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


@pytest.mark.parametrize("dsn", ["postgres://user:a@hunter2@db/x", "host=db hunter2"])
def test_check_refuses_it_before_anything_starts(dsn: str) -> None:
    with pytest.raises(ConfigError, match=r"journal\.dsn is not a valid") as raised:
        check_address(JournalSettings(type="postgres", dsn=Secret(dsn)))
    check_address(JournalSettings(type="postgres", dsn=Secret("postgres://user:a%40b@db/x")))
    check_address(JournalSettings())

    assert "hunter2" not in str(raised.value)


def test_a_password_with_escapes_is_no_part_of_an_outage() -> None:
    dsn = "postgres://user:a%40hunter2%2Fb@127.0.0.1:1/db"

    with pytest.raises(ForwarderError, match="unavailable") as raised:
        Database(lambda: dsn, "forwarder").connect()

    assert "hunter2" not in f"{raised.value} {raised.value.__cause__}"


@pytest.mark.parametrize("option", ["sslmode=often", "target_session_attrs=primry"])
def test_an_option_with_an_invalid_value_is_no_outage(option: str) -> None:
    with pytest.raises(NeedsOperatorError, match=f"invalid {option.partition('=')[0]} value") as no:
        Database(lambda: f"host=127.0.0.1 port=1 {option}", "forwarder").connect()

    assert "correct the option of journal.dsn that is named" == no.value.hint
