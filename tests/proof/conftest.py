"""What the proofs share: the ledger of figures, and its page when ``make`` asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.postgresql import Postgresql
from tests.integration.unavailable import Unavailable
from tests.proof.ledger import Ledger
from tests.proof.turns import too_long

HERE = Path(__file__).parent
_ledger = pytest.StashKey[Ledger]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this folder is a proof."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.proof)


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Ledger:
    return request.config.stash.setdefault(_ledger, Ledger())


@pytest.fixture(autouse=True)
def _turns(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Fail when one turn of a daemon's event loop took long in this scenario."""
    yield
    alone = request.node.get_closest_marker("alone") is not None
    assert [] == too_long(tmp_path, alone=alone)


@pytest.fixture
def server() -> Iterator[Postgresql]:
    try:
        with Postgresql.run() as server:
            yield server
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def long() -> bool:
    """Return True if this is the run of hours."""
    return os.environ.get("PROOF_RUN") == "proof-long"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the figures down; the Makefile says which run this is."""
    run, found = os.environ.get("PROOF_RUN"), session.config.stash.get(_ledger, None)
    if run and found is not None:
        found.keep(HERE.parents[1] / "docs", run)
