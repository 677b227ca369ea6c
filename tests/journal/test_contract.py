"""SQLite passes the contract of journals."""

from collections.abc import Iterator

import pytest

from forwarder.testing.journal_contract import JournalContract
from tests.journal.sqlite_opener import SqliteOpener


class TestSqlite(JournalContract):
    @pytest.fixture
    def opener(self) -> Iterator[SqliteOpener]:
        opener = SqliteOpener()
        yield opener
        opener.discard()
