"""Starts real destinations; pytest names those that could not be started, with the reason."""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeAlias, TypeVar

import pytest

from tests.integration.pgbouncer import PgBouncer
from tests.integration.postgresql import Postgresql
from tests.integration.unavailable import Unavailable

Server = TypeVar("Server")
Run: TypeAlias = Callable[[], AbstractContextManager[Server]]
Start: TypeAlias = Callable[[str, Run[Server]], Iterator[Server]]

ABANDONED = pytest.mark.filterwarnings(
    r"ignore:Exception ignored in.*(socket|SelectorTransport)"
    ":pytest.PytestUnraisableExceptionWarning"
)
"""For tests of Kafka that take its network away, with the fixture ``abandoned``.

Before Python 3.12 a connection of aiokafka that comes about in the moment in which the attempt is
given up belongs to nobody (asyncio.wait_for); it is closed when garbage is looked for.
"""


@pytest.fixture
def abandoned() -> Iterator[None]:
    """Look for garbage after the test that left it, so that no other test is blamed for it."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def start() -> Start[Server]:
    """Return a generator that runs a server for a fixture, or skips with the reason named."""

    def started(name: str, run: Run[Server]) -> Iterator[Server]:
        try:
            with run() as server:
                yield server
        except Unavailable as reason:
            pytest.skip(f"{name}: {reason}")

    return started


@pytest.fixture(scope="module")
def server(start: Start[Postgresql]) -> Iterator[Postgresql]:
    """Return a PostgreSQL server."""
    yield from start("postgresql", Postgresql.run)


@pytest.fixture(scope="module")
def pooler(start: Start[PgBouncer], server: Postgresql) -> Iterator[PgBouncer]:
    """Return PgBouncer in front of ``server``."""
    yield from start("pgbouncer", lambda: PgBouncer.run(server.port))
