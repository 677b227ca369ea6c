"""PostgreSQL passes the contract of journals, and the machine finds nothing wrong with it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from forwarder.config import load
from forwarder.journal.tables import create
from forwarder.runtime.inspection import diagnose
from forwarder.testing.journal_contract import JournalContract
from forwarder.testing.journal_machine import machine_for
from tests.integration.pgbouncer import PgBouncer
from tests.integration.postgres_opener import PostgresOpener
from tests.integration.postgresql import Postgresql

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


class TestPostgres(JournalContract):
    @pytest.fixture
    def opener(self, server: Postgresql) -> Iterator[PostgresOpener]:
        opener = PostgresOpener(server.dsn)
        yield opener
        opener.discard()


class TestBehindPgBouncer(JournalContract):
    @pytest.fixture
    def opener(self, pooler: PgBouncer) -> Iterator[PostgresOpener]:
        opener = PostgresOpener(pooler.dsn, pooler=True)
        yield opener
        opener.discard()


def test_a_schema_may_have_the_name_of_a_word_of_sql(server: Postgresql) -> None:
    opener = PostgresOpener(server.dsn, "full")
    try:
        own = opener.take("first")
        again = create(opener.database)
    finally:
        opener.discard()

    assert (own.epoch, again) == (1, 0)


async def test_check_live_asks_the_database(server: Postgresql, tmp_path: Path) -> None:
    opener, path, found = PostgresOpener(server.dsn, "siem"), tmp_path / "c.yaml", []
    try:
        for schema in ("siem", "other"):
            path.write_text(f"""
version: 1
accounts:
  - {{ account_id: {"a" * 32}, api_token: t, api_url: "http://127.0.0.1:1/client/v4" }}
sinks:
  out: {{ type: stdout }}
journal: {{ type: postgres, dsn: "{server.dsn}", schema: {schema} }}
""")
            found += [one for one in await diagnose(load(path, {})) if one.subject == "journal"]
    finally:
        opener.discard()

    assert [one.level for one in found] == ["ok", "fault"]
    assert "forwarder journal create" in found[1].text


def test_whatever_happens_no_row_is_lost_in_silence(server: Postgresql) -> None:
    few = settings(max_examples=12, stateful_step_count=30, deadline=None)

    run_state_machine_as_test(machine_for(lambda: PostgresOpener(server.dsn)), settings=few)
